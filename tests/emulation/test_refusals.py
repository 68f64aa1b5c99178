"""Refusals: what nvcc certainly refuses is found, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.emulation.refusals import Refusal, refusals
from tests.emulation.sources import cuda_sources

SOURCES = cuda_sources()
KERNEL = "__global__ void k(float* x) { x[0] = 1; }\n"
HOST = "float f(float x) { return x; }\n"
DEVICE = "__device__ float f(float x) { return x; }\n"


def calling(callee: str, caller: str) -> str:
    return f"calling a {callee} from a {caller} is not allowed"


HOST_IN_KERNEL = calling('__host__ function("f")', '__global__ function("k")')
DEVICE_IN_HOST = calling('__device__ function("f")', '__host__ function("g")')
UNDEFINED = 'identifier "scale" is undefined in device code'

REFUSED = {
    HOST + "__global__ void k(float* x) {\n  x[0] = f(x[1]);\n}": (3, HOST_IN_KERNEL),
    "static inline "
    + HOST
    + "__global__ void __launch_bounds__(256) k(float* __restrict__ x) { x[0] = 2 + f(1); }": (
        2,
        HOST_IN_KERNEL,
    ),
    "template <typename T> T f(T x) { return x; }\n"
    "template <typename T> __global__ void k(T* x) { x[0] = f(x[1]); }\n"
    "void g(float* x) { k<float><<<1, 1>>>(x); }": (2, HOST_IN_KERNEL),
    HOST + "__device__ float d(float x) { return f(x); }\n"
    "__global__ void k(float* x) { x[0] = d(1); }": (
        2,
        calling('__host__ function("f")', '__device__ function("d")'),
    ),
    DEVICE + "float g() {\n  return f(1.0f);\n}": (3, DEVICE_IN_HOST),
    DEVICE + 'void g() { DISPATCH(t, "g", ([&] { f(1.0f); })); }': (2, DEVICE_IN_HOST),
    "__global__ int k(float* x) { return 1; }": (
        1,
        "a __global__ function must have a void return type",
    ),
    KERNEL + "void g(float* x) {\n  k(x);\n}": (
        3,
        'a __global__ function("k") call must be configured',
    ),
    "template <int N> " + KERNEL + "void g(float* x) { k<4>(x); }": (
        2,
        'a __global__ function("k") call must be configured',
    ),
    HOST + KERNEL + "void g() { f<<<1, 1>>>(1.0f); }": (
        3,
        'a host function("f") call cannot be configured',
    ),
    DEVICE + "void g() { f<<<1, 1>>>(1.0f); }": (
        2,
        'a __device__ function("f") call cannot be configured',
    ),
    "__global__ void k(float* x,\n  const int& n) { x[n] = 1; }": (
        2,
        "a __global__ function cannot have a parameter with reference type",
    ),
    "static float scale = 2;\n__global__ void k(float* x) { x[0] = scale; }": (2, UNDEFINED),
    "int scale[4];\n__global__ void k(int* x) { x[0] = scale[1]; }": (2, UNDEFINED),
    "__global__ void k(float* x) {\n  __shared__ float s = 0;\n  x[0] = s;\n}": (
        2,
        "initializer not allowed for __shared__ variable",
    ),
}


@pytest.mark.parametrize("source", REFUSED)
def test_what_nvcc_refuses_is_found_on_its_line(source: str) -> None:
    line, message = REFUSED[source]
    assert refusals(source) == [Refusal(message, line)]


IN_KERNEL = "__global__ void k(float* x) { x[0] = f(x[1]); }\n"
ALLOWED = [
    DEVICE + IN_KERNEL,
    "__host__ " + DEVICE + IN_KERNEL + "float g() { return f(1); }",
    "constexpr " + HOST + IN_KERNEL,
    "float __device__ f(float x) { return x; }\n" + IN_KERNEL,
    "#define DEVICE __device__\nDEVICE " + HOST + IN_KERNEL,
    "DEVICE " + HOST + IN_KERNEL,
    "HOST_DEVICE inline " + HOST + IN_KERNEL,
    "DEVICE\n" + HOST + IN_KERNEL,
    "DECORATED(x)\n" + HOST + IN_KERNEL,
    "template <class T>\nDEVICE T f(T x) { return x; }\n" + IN_KERNEL,
    HOST + "__device__ int f(int x) { return x; }\n" + IN_KERNEL,
    HOST + "__device__ float f(float x);\n" + IN_KERNEL,
    "#ifdef A\n__device__ float f(float x) { return x; }\n#else\n" + HOST + "#endif\n" + IN_KERNEL,
    HOST + "#define f(x) (x)\n" + IN_KERNEL,
    HOST + "__global__ void k(float* x) { auto f = [](float v) { return v; }; x[0] = f(1); }",
    HOST + "template <class F> __global__ void k(float* x, F f) { x[0] = f(1); }",
    HOST + "template <float (*f)(float)> __global__ void k(float* x) { x[0] = f(1); }",
    HOST + "struct A { __device__ float f(float); };\n__global__ void k(A a) { a.f(1); }",
    HOST + "struct A { __device__ float f(float); };\n" + IN_KERNEL,
    HOST + "template <class T> __global__ void k(T* x) { x[0] = f(x[1]); }",
    HOST + "__global__ void k(float* x) { decltype(f(1)) y = x[0]; int n = sizeof(f(1)); }",
    HOST + "__global__ void k(float* x) {\n#ifndef __CUDA_ARCH__\n  f(1);\n#endif\n}",
    HOST + "__host__ __device__ void d() { f(1); }\n__global__ void k() { d(); }",
    HOST + "// __global__ void k() { f(1); }\n" + KERNEL,
    "float max(float a, float b) { return a; }\n__global__ void k(float* x) { *x = max(*x, 1.f); }",
    "float expf(float a) { return a; }\n__global__ void k(float* x) { *x = expf(*x); }",
    "__device__ float sqrtf(float a) { return a; }\nfloat g() { return sqrtf(2); }\n" + KERNEL,
    DEVICE + "void g() { apply([=] __device__(float x) { return f(x); }); }\n",
    DEVICE + "template <class T> T g() { return f(1.0f); }\n",
    DEVICE + "using G = decltype(f(1.0f));\nvoid g() { call(f); }\n",
    KERNEL + "void g(float* x) { k<<<1, 1>>>(x); }",
    KERNEL + "void k(int n) { k<<<n, 1>>>(nullptr); }\nvoid g() { k(3); }",
    KERNEL + "void g(float* x) { auto k = [&](float*) {}; k(x); }",
    KERNEL + "#define RUN(k, x) k<<<1, 1>>>(x)\nvoid g(float* x) { RUN(k, x); }",
    KERNEL + 'PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("k", &k); }',
    KERNEL + "void g(void (*kernel)(float*)) { kernel<<<1, 1>>>(nullptr); }",
    HOST + KERNEL + "void g(void (*f)(float)) { f<<<1, 1>>>(1.0f); }",
    "__global__ void k(float* x);\n" + KERNEL,
    "__global__ void k(const float* const __restrict__ x, int2 n) {}",
    "template <typename T> void __global__ k(T x) {}",
    "__device__ float scale = 2;\n__global__ void k(float* x) { x[0] = scale; }",
    "__constant__ float scale[3];\n__global__ void k(float* x) { x[0] = scale[0]; }",
    "const float scale = 2;\n__global__ void k(float* x) { x[0] = scale; }",
    "static constexpr int scale = 2;\n__global__ void k(float* x) { x[0] = scale; }",
    "enum { scale = 2 };\n__global__ void k(float* x) { x[0] = scale; }",
    "float scale = 2;\n__global__ void k(float* x, float scale) { x[0] = scale; }",
    "float scale = 2;\n__global__ void k(float* x) { float scale = 3; x[0] = scale; }",
    "float scale = 2;\nstruct A { float scale; };\n__global__ void k(A a) { a.scale = 3; }",
    "float scale = 2;\nvoid g() { scale = 3; }\n" + KERNEL,
    "float scale(float x);\n" + KERNEL,
    "DEVICE_VARIABLE float scale = 2;\n__global__ void k(float* x) { x[0] = scale; }",
    "__global__ void k(int n) { __shared__ float s[4]; s[n == 3] = 1; }",
    "__global__ void k(int n) { __shared__ union { float a; int b; } s; s.a = 1; }",
    "void only_a_host(float& x) { x = 1; }",
    "",
]


@pytest.mark.parametrize("source", ALLOWED)
def test_what_may_be_right_is_not_refused(source: str) -> None:
    assert refusals(source) == []


EXPECTED = {
    "softmax_rows__kernel_called_like_a_function": ["call must be configured"],
    "squared_relu__host_function_in_kernel": ["calling a __host__ function"],
}


@pytest.mark.parametrize("name", SOURCES)
def test_candidates_of_the_repository_are_refused_only_where_that_is_their_bug(name: str) -> None:
    expected = EXPECTED.get(Path(name.split(":")[0]).stem, [])
    found = refusals(SOURCES[name])
    assert len(found) == len(expected)
    assert all(words in refusal.message for words, refusal in zip(expected, found))


def test_text_that_is_not_ascii_keeps_its_lines() -> None:
    source = "// größe ≤ 3\n" + KERNEL + 'const char* s = "ü";\nvoid g(float* x) { k(x); }'
    assert [refusal.line for refusal in refusals(source)] == [4]
