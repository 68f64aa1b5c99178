"""Rewriting: launches and shared memory become C++, every token stays on its line."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.emulation._tokens import mask
from harness.emulation.dialect import Untranslatable, rewrite
from tests.emulation.sources import cuda_sources

INCLUDE = Path(__file__).parents[2] / "harness" / "emulation" / "native" / "include"
SOURCES = cuda_sources()
PREAMBLE = """\
#include <type_traits>
#include "emulated/core.h"
#include "emulated/launch.h"
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __align__(n) __attribute__((aligned(n)))
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
namespace emulated {
template <class... A>
int func_set_attribute(const char*, void (*)(A...), cudaFuncAttribute, int) { return 0; }
template <class... A>
int cuda_launch_kernel(void (*)(A...), const char*, dim3, dim3, void**, size_t = 0,
                       cudaStream_t = nullptr) { return 0; }
}
void __syncthreads();
#line 1 "cuda.cu"
"""


def is_valid(cpp: str) -> str:
    """What g++ says against a text; nothing where it is valid."""
    command = ["g++", "-std=c++20", "-fsyntax-only", "-w", f"-I{INCLUDE}", "-x", "c++", "-"]
    done = subprocess.run(command, input=PREAMBLE + cpp, capture_output=True, text=True)
    return done.stderr


def launched(kernel: str, name: str, rest: str) -> str:
    arguments = "emulated_arguments"
    start = f"::emulated::launch([&](auto&... {arguments}) {{ {kernel}({arguments}...); }}"
    return f"{start}, {name}, {rest}"


LAUNCHES = {
    "k<<<g, b>>>(x);": ("k", '"k"', "g, b)(x);"),
    "k <<< g, b >>> (x);": ("k ", '"k"', " g, b ) (x);"),
    "k<T><<<g, b, 0, s>>>(x);": ("k<T>", '"k<T>"', "g, b, 0, s)(x);"),
    "k<T, 4><<<g, b>>>();": ("k<T, 4>", '"k<T, 4>"', "g, b)();"),
    "k<T,  (N > 4)><<<g, b>>>(x);": ("k<T,  (N > 4)>", '"k<T, (N>4)>"', "g, b)(x);"),
    "k<A<B<C>>><<<g, b>>>(x);": ("k<A<B<C>>>", '"k<A<B<C>>>"', "g, b)(x);"),
    "k<(1 << 3)><<<g, b>>>(x);": ("k<(1 << 3)>", '"k<(1<<3)>"', "g, b)(x);"),
    "k<N >= 4><<<g, b>>>(x);": ("k<N >= 4>", '"k<N>=4>"', "g, b)(x);"),
    "a::b::k<T><<<g, b>>>(x);": ("a::b::k<T>", '"k<T>"', "g, b)(x);"),
    "::k<<<g, b>>>(x);": ("::k", '"k"', "g, b)(x);"),
    "T::template k<3><<<g, b>>>(x);": ("T::template k<3>", '"template k<3>"', "g, b)(x);"),
    "A<T>::k<<<g, b>>>(x);": ("A<T>::k", '"A<T>::k"', "g, b)(x);"),
    "(*p)<<<g, b>>>(x);": ("(*p)", '"(*p)"', "g, b)(x);"),
    "table[i + 1]<<<g, b>>>(x);": ("table[i + 1]", '"table[i+1]"', "g, b)(x);"),
    "self->pick(2)<<<g, b>>>(x);": ("self->pick(2)", '"self->pick(2)"', "g, b)(x);"),
    "k<'a'><<<g, b>>>(x);": ("k<'a'>", "\"k<'a'>\"", "g, b)(x);"),
    "k<<<n >> 2, 1 << 3>>>(x);": ("k", '"k"', "n >> 2, 1 << 3)(x);"),
    "k<<<f(1, 2), A<1, 2>::n>>>(x);": ("k", '"k"', "f(1, 2), A<1, 2>::n)(x);"),
    "k<<<g, b, A<B<C<1>>>::n>>>(x);": ("k", '"k"', "g, b, A<B<C<1>>>::n)(x);"),
    "k<<<g, b, size<T>>>>(x);": ("k", '"k"', "g, b, size<T>)(x);"),
    "k<<<[&] { return n >> 1; }(), b>>>(x);": ("k", '"k"', "[&] { return n >> 1; }(), b)(x);"),
    "k<<<{1, 2}, b>>>(x, y);": ("k", '"k"', "{1, 2}, b)(x, y);"),
    "k<<<g, b>>>(x, NULL, f(NULL));": ("k", '"k"', "g, b)(x, nullptr, f(NULL));"),
}


@pytest.mark.parametrize("source", LAUNCHES)
def test_a_launch_becomes_a_call(source: str) -> None:
    assert rewrite(source) == launched(*LAUNCHES[source])


@pytest.mark.parametrize("before", ["return ", "else ", "if (x) ", "{ ", "x = 1; ", "label: "])
def test_what_stands_before_a_launch_stays(before: str) -> None:
    assert rewrite(f"{before}k<<<g, b>>>(x);") == before + launched("k", '"k"', "g, b)(x);")


def test_a_macro_names_the_kernel_that_it_is_given() -> None:
    source = "#define LAUNCH(k, T, ...) \\\n  k<T, 4><<<g, b>>>( \\\n    __VA_ARGS__)\n"
    name = '#k "<" #T ", 4>"'
    expected = launched("k<T, 4>", name, "g, b)( \\\n    __VA_ARGS__)\n")
    assert rewrite(source) == "#define LAUNCH(k, T, ...) \\\n  " + expected
    assert '#k "_kernel", g' in rewrite("#define L(k) k##_kernel<<<g, b>>>(x)\n")


def test_a_launch_through_a_variable_is_named_after_its_kernel() -> None:
    for declaration in (
        "auto f = &ns::k<T>;",
        "void (*f)(float*) = k<T>;",
        "const auto* f = k<T>;",
    ):
        assert '"k<T>", g' in rewrite(declaration + " f<<<g, b>>>(x);")
        attribute = rewrite(declaration + " cudaFuncSetAttribute(f, a, 1);")
        assert 'func_set_attribute("k", f, a, 1)' in attribute
    assert '"f", g' in rewrite("auto f = n ? k<1> : k<2>; f<<<g, b>>>(x);")
    assert '"f", g' in rewrite("auto f = k; f = pick(n); f<<<g, b>>>(x);")


SHARED = {
    "__shared__ float a;": 'auto& a = V<float, S>("a");',
    "__shared__ float a[N][M + 1];": 'auto& a = V<float[N][(M + 1)], S>("a");',
    "__shared__ T a[2], b, *c;": (
        'auto& a = V<T[2], S>("a"); auto& b = V<T, S>("b"); auto& c = V<T *, S>("c");'
    ),
    "static __shared__ float a[2];": 'auto& a = V<float[2], S>("a");',
    "__shared__ static float a[2];": 'auto& a = V<float[2], S>("a");',
    "volatile __shared__ float a[2];": 'auto& a = V<volatile float[2], S>("a");',
    "__shared__ volatile float a[2];": 'auto& a = V<volatile float[2], S>("a");',
    "float __shared__ a[2];": 'auto& a = V<float[2], S>("a");',
    "at::Half __shared__ a[2];": 'auto& a = V<at::Half[2], S>("a");',
    "__shared__ unsigned long long a;": 'auto& a = V<unsigned long long, S>("a");',
    "__shared__ const unsigned char* a[2];": 'auto& a = V<const unsigned char *[2], S>("a");',
    "__shared__ typename X<T, 4>::Y a[2];": 'auto& a = V<typename X<T, 4>::Y[2], S>("a");',
    "__shared__ struct Pair a[2];": 'auto& a = V<struct Pair[2], S>("a");',
    "__shared__ std::pair<int, int> a[2];": 'auto& a = V<std::pair<int, int>[2], S>("a");',
    "__shared__ ::A<(N > 1)> a;": 'auto& a = V<::A<(N>1)>, S>("a");',
    "__shared__ decltype(x + y) a[2];": 'auto& a = V<decltype(x+y)[2], S>("a");',
    "__shared__ float a[N > 4 ? 1 : 2];": 'auto& a = V<float[(N > 4 ? 1 : 2)], S>("a");',
    "__shared__ __align__(16) float a[2];": 'auto& a = V<float[2], S, (16)>("a");',
    "__align__(16) __shared__ float a[2];": 'auto& a = V<float[2], S, (16)>("a");',
    "__shared__ float __align__(16) a[2];": 'auto& a = V<float[2], S, (16)>("a");',
    "alignas(128) __shared__ float a[2];": 'auto& a = V<float[2], S, (128)>("a");',
    "__shared__ float a[2] __attribute__((aligned(16)));": 'auto& a = V<float[2] , S, (16)>("a");',
    "__shared__ __attribute__((unused)) float a[2];": 'auto& a = V<float[2], S>("a");',
    "extern __shared__ float a[];": "float* a = ::emulated::dynamic<float>();",
    "extern __shared__ volatile int a[];": "volatile int* a = ::emulated::dynamic<volatile int>();",
    "extern __shared__ float a[], b[];": (
        "float* a = ::emulated::dynamic<float>(); float* b = ::emulated::dynamic<float>();"
    ),
    "extern __shared__ __align__(16) unsigned char a[];": (
        "unsigned char* a = ::emulated::dynamic<unsigned char>();"
    ),
    "extern __align__(sizeof(T)) __shared__ T a[];": "T* a = ::emulated::dynamic<T>();",
    "__shared__ extern float4 a[];": "float4* a = ::emulated::dynamic<float4>();",
    "extern __shared__ float a[][4];": "auto* a = ::emulated::dynamic<float[4]>();",
}


@pytest.mark.parametrize("source", SHARED)
def test_a_shared_declaration_becomes_a_reference(source: str) -> None:
    expected = SHARED[source].replace("V<", "::emulated::shared_variable<")
    expected = expected.replace(", S", ", decltype([] {})")
    made = rewrite(f"void k() {{ {source} }}")
    assert re.sub(r" +", " ", made) == f"void k() {{ {expected} }}"


def test_dynamic_shared_memory_outside_of_functions_is_an_object() -> None:
    source = "namespace n { extern __shared__ float s[]; }\nstruct __align__(8) P { float x; };\n"
    made = rewrite(source + 'extern "C" { extern __shared__ char t[]; }')
    assert "static ::emulated::Dynamic<float> s;" in made
    assert "static ::emulated::Dynamic<char> t;" in made


def test_both_branches_of_a_condition_start_in_the_same_function() -> None:
    source = "#if A\nvoid f() {\n#else\nvoid g() {\n#endif\n}\nextern __shared__ float s[];"
    assert "static ::emulated::Dynamic<float> s;" in rewrite(source)


def test_lambdas_refer_to_shared_variables() -> None:
    made = rewrite("void k() { __shared__ int s[2]; auto f = [=](int i) { return s[i]; }; }")
    assert "[=, &s]" in made
    made = rewrite("void k() { __shared__ int s[2]; auto f = [](int i) { return s[i]; }; s[0]; }")
    assert "[&s](int i)" in made
    for unchanged in ("[&](int i) { return s[i]; }", "[=](int i) { return i; }"):
        assert unchanged in rewrite(f"void k() {{ __shared__ int s[2]; auto f = {unchanged}; }}")


RUNTIME = {
    "cudaLaunchKernel((const void*)k<T, 4>, g, b, a, 0, s)": 'k<T, 4>, "k", g, b, a, 0, s',
    "cudaLaunchKernel((void*)&n::k, g, b, a)": 'n::k, "k", g, b, a',
    "cudaLaunchKernel(reinterpret_cast<void const*>(&k<T>), g, b, a)": 'k<T>, "k", g, b, a',
    "::cudaLaunchKernel((void*)(void (*)(T*))k, g, b, a)": 'k, "k", g, b, a',
    "cudaLaunchKernel(k<T>, g, b, a)": 'k<T>, "k", g, b, a',
}


@pytest.mark.parametrize("source", RUNTIME)
def test_runtime_launches_lose_their_casts(source: str) -> None:
    made = rewrite(f"check({source});").replace(" ", "")
    expected = f"check(::emulated::cuda_launch_kernel({RUNTIME[source]}));"
    assert made == expected.replace(" ", "")


def test_an_untyped_variable_is_replaced_by_the_kernel_that_it_was_set_to() -> None:
    made = rewrite("const void* f = (const void*)k<T>; cudaLaunchKernel(f, g, b, a);")
    assert 'cuda_launch_kernel(k<T>, "k", g, b, a)' in made


def test_attributes_are_set_by_name() -> None:
    made = rewrite("cudaFuncSetAttribute((const void*)n::k<T, 4>, attribute, 1 << 16);")
    assert made.replace(" ", "") == (
        '::emulated::func_set_attribute("k",n::k<T,4>,attribute,1<<16);'
    )


def test_unroll_hints_are_taken_out() -> None:
    source = '#pragma unroll\nfor (;;) {}\n  #pragma unroll N // why\n_Pragma("unroll 4") x;\n'
    made = [line.strip() for line in rewrite(source).split("\n")]
    assert made == ["", "for (;;) {}", "// why", "x;", ""]
    assert rewrite("#pragma once\n") == "#pragma once\n"


def test_noinline_becomes_an_attribute() -> None:
    assert rewrite("__noinline__ void f();") == "__attribute__((noinline)) void f();"
    unchanged = "__attribute__((__noinline__)) void f();"
    assert rewrite(unchanged) == unchanged


LEFT = [
    "// k<<<g, b>>>(x) __shared__ float s;\n",
    "/* k<<<g, b>>>(x)\n __shared__ float s; */",
    '"k<<<g, b>>>(x) __shared__ \\" float s;"',
    'R"tag(k<<<g, b>>>(x)" __shared__ float s;)tag"',
    "auto a = '\"'; auto b = 1'000'000; auto c = \"__noinline__\";",
    "#if 0\nk<<<don't\n#endif\n",
    "// continued \\\n k<<<g, b>>>(x)\n",
    "std::cout << 1 << 2; a = b >> 3; x<y<1>> z;",
    'asm volatile("bar.sync 0;");',
    "__global__ void __launch_bounds__(256, 2) k(float* __restrict__ x) {}",
]


@pytest.mark.parametrize("source", LEFT)
def test_everything_else_is_left_alone(source: str) -> None:
    assert rewrite(source) == source


FAILS = {
    "k<<<g, b(x);": (1, "without its >>>"),
    "\nk<<<g, b>>>;": (2, "without its >>>"),
    "\n\n<<<g, b>>>(x);": (3, "which kernel"),
    "void k() {\n__shared__ struct { int a; } s;\n}": (2, "a type is defined"),
    "void k() {\n__shared__ int s = 3;\n}": (2, "initializer not allowed"),
    "__shared__ int s;": (1, "outside of all functions"),
    "void k() { cudaLaunchKernel(); }": (1, "cannot read"),
}


@pytest.mark.parametrize("source", FAILS)
def test_what_cannot_be_rewritten_is_said_with_its_line(source: str) -> None:
    with pytest.raises(Untranslatable) as raised:
        rewrite(source)
    line, words = FAILS[source]
    assert raised.value.line == line
    assert words in raised.value.message


TAKEN_OUT = {"pragma", "unroll", "cudaLaunchKernel", "cudaFuncSetAttribute", "NULL"} | {
    "reinterpret_cast", "static_cast", "const", "void"
}  # fmt: skip


def names(line: str) -> set[str]:
    return set(re.findall(r"[A-Za-z_]\w*", line))


@pytest.mark.parametrize("name", SOURCES)
def test_every_candidate_of_the_repository_is_rewritten(name: str) -> None:
    source = SOURCES[name]
    made = rewrite(source)
    assert made.count("\n") == source.count("\n")
    assert "<<<" not in mask(made)
    assert "__shared__" not in mask(made)
    for before, after in zip(source.split("\n"), made.split("\n")):
        if "__shared__" not in before:
            assert names(before) - names(after) <= TAKEN_OUT


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="k<>(){}[];,\n\"'/*#_ &=\\", max_size=60))
def test_any_text_is_rewritten_or_refused_with_lines_kept(text: str) -> None:
    source = f"void f() {{ {text} __shared__ float s[2]; k<<<1, 2>>>(s);\n}}"
    try:
        made = rewrite(source)
    except Untranslatable as error:
        assert 1 <= error.line <= source.count("\n") + 1
    else:
        assert made.count("\n") == source.count("\n")


VALID = r"""
template <typename T> struct Sizes { static constexpr int n = 64; using type = T; };
template <typename T> __host__ __device__ constexpr size_t bytes() { return sizeof(T); }
extern __shared__ unsigned char everywhere[];
template <typename T, int N>
__global__ void __launch_bounds__(256) sum(const T* __restrict__ x, T* y, int n) {
    __shared__ T tile[N][N + 1], total, *first;
    static __shared__ volatile unsigned long long count[(N > 4) ? 2 : 1];
    __shared__ __align__(16) float rows[N > 4 ? 1 : 2],
        columns[N]  // the second
               [2];
    float __shared__ before[32];
    __shared__ alignas(float4) unsigned char raw[sizeof(T) * N] __attribute__((aligned(32)));
    __shared__ typename Sizes<T>::type values[Sizes<T>::n];
    extern __shared__ __align__(16) unsigned char bytes_raw[];
    T* dynamic = reinterpret_cast<T*>(bytes_raw);
    T* other = reinterpret_cast<T*>(everywhere);
    float* third = (float*)everywhere + 1;
    auto get = [=](int i) { return tile[i][0] + T(before[i]) + values[i] + T(n); };
    auto put = [](T v) { total = v; };
    #pragma unroll N
    for (int i = 0; i < N; ++i) put(get(i) + dynamic[i] + other[i] + T(third[i]));
    first = &tile[0][0];
    count[0] = raw[0] + columns[0][0] + rows[0] + everywhere[3];
    if (y != nullptr) y[0] = total + *first + x[0];
}
namespace inner { __global__ void plain(float* x, const int* y) {} }
__noinline__ __device__ int far_away() { return 1; }
#define LAUNCH(kernel, T, ...) \
    kernel<T, 8><<<1, dim3(32, 2), 0>>>( \
        __VA_ARGS__)
template <typename scalar_t>
void host(scalar_t* p, cudaStream_t s) {
    constexpr int N = 8;
    const int64_t blocks = 3;
    void* arguments[] = {&p};
    auto kernel = sum<scalar_t, 4>;
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 65536);
    cudaFuncSetAttribute((const void*)inner::plain, cudaFuncAttributeMaxDynamicSharedMemorySize, 1);
    cudaLaunchKernel((const void*)sum<scalar_t, 4>, 1, dim3(2), arguments, 0, s);
    kernel<<<1, 2>>>(p, p, 1);
    sum<scalar_t, (N > 4)><<<blocks, 256 >> 1, bytes<scalar_t>(), s>>>(p, p, 1);
    [&] { sum<scalar_t, N><<<{1, 2, 3}, 2, Sizes<Sizes<Sizes<int>>>::n>>>(p, p, 1); }();
    LAUNCH(sum, scalar_t, p, p, 3);
    if (p) inner::plain<<<1, 1>>>(nullptr, NULL); else ::inner::plain<<<1, 1>>>(nullptr, nullptr);
}
void all() { host<float>(nullptr, nullptr); host<double>(nullptr, nullptr); }
"""


def test_what_comes_out_is_valid() -> None:
    assert is_valid(rewrite(VALID)) == ""


def test_errors_keep_their_lines() -> None:
    source = VALID + "void wrong() { inner::plain<<<1,\n  undeclared>>>(nullptr, nullptr); }\n"
    line = source[: source.index("undeclared")].count("\n") + 1
    assert f"cuda.cu:{line}:" in is_valid(rewrite(source))
