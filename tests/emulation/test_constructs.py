"""Constructs: what is not emulated is found on its line, and a candidate's own names are not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.emulation import constructs
from harness.emulation._conditions import ARCHITECTURE
from harness.emulation.constructs import Construct, missing, unsupported
from tests.emulation.sources import cuda_sources

SOURCES = cuda_sources()

FOUND = {
    'asm volatile("bar.sync 0;");': "inline PTX",
    '__asm__ __volatile__("mov.u32 %0, %laneid;" : "=r"(x));': "inline PTX",
    '#define FENCE() asm volatile("membar.gl;")': "inline PTX",
    "#include <cutlass/gemm.h>": "CUTLASS",
    "cutlass::half_t x;": "CUTLASS",
    "auto l = cute::make_layout(1);": "CuTe",
    "#include <cub/cub.cuh>": "CUB",
    "cub::BlockReduce<float, 128> r;": "CUB",
    "at::cuda::cub::sort();": "CUB",
    '#include "thrust/sort.h"': "Thrust",
    "thrust::sort(a, b);": "Thrust",
    "#include <cuda/barrier>": "libcu++",
    "cuda::std::array<int, 2> a;": "libcu++",
    "::cuda::atomic_ref<int> a(x);": "libcu++",
    "#include <cuda_pipeline.h>": "asynchronous copy",
    "__pipeline_commit();": "asynchronous copy",
    "cg::memcpy_async(block, a, b, n);": "asynchronous copy",
    "cudaTextureObject_t t;": "textures and surfaces",
    "x = tex2D<float>(t, 1, 2);": "textures and surfaces",
    "texture<float, 2> t;": "textures and surfaces",
    "cudaGraphLaunch(g, s);": "CUDA graphs",
    "cudaStreamBeginCapture(s, m);": "CUDA graphs",
    "at::cuda::CUDAGraph g;": "CUDA graphs",
    "__global__ void k() { f<<<1, 1>>>(); }": "dynamic parallelism",
    "template <class T>\n__device__ void k() { if (a) { f<<<1, 1>>>(); } }": "dynamic parallelism",
    "cudaLaunchCooperativeKernel((void*)k, g, b, a);": "cooperative launches",
    "auto g = cg::this_grid(); g.sync();": "barrier of the grid",
    "cg::this_grid().sync();": "barrier of the grid",
    "void f(cg::grid_group g) { cg::sync(g); }": "barrier of the grid",
    "__global__ void __cluster_dims__(2, 1, 1) k() {}": "thread block clusters",
    "cg::cluster_group c = cg::this_cluster();": "thread block clusters",
    "cudaLaunchKernelEx(&config, k, x);": "cudaLaunchKernelEx",
    "CUtensorMap map;": "tensor memory accelerator (TMA)",
    "nvrtcCompileProgram(p, 0, 0);": "compiler at run time (NVRTC)",
    "cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, s, a, 0);": "CUDA driver API",
    "cuModuleLoadData(&m, p);": "CUDA driver API",
    "cudnnCreate(&h);": "cuDNN",
    "cufftExecC2C(p, a, b, 1);": "cuFFT",
    "cusparseCreate(&h);": "cuSPARSE",
    "cusolverDnCreate(&h);": "cuSOLVER",
    "curandState s; ": "cuRAND",
    "x = curand_uniform(&s);": "cuRAND",
    "ncclAllReduce(a, b, n);": "NCCL",
    "#include <nvml.h>": "header nvml.h",
}


@pytest.mark.parametrize("source", FOUND)
def test_a_construct_is_found_on_its_line(source: str) -> None:
    line = 3 + source.count("\n")
    assert unsupported(f"// one\n/* two */\n{source}\n") == [Construct(FOUND[source], line)]


NOT_FOUND = [
    'asm volatile("" ::: "memory");',
    'asm("");',
    '// asm("bar.sync 0;") cub::BlockReduce',
    '/* #include <cub/cub.cuh> */ const char* s = "thrust::sort asm(1)";',
    "/*\n#include <cub/cub.cuh>\n*/",
    "#if 0\n#include <cub/cub.cuh>\n#endif",
    "auto s = at::cuda::getCurrentCUDAStream();",
    "using namespace at; auto s = cuda::getCurrentCUDAStream();",
    "void f() { k<<<1, 1>>>(); }",
    "__global__ void k() {} void f() { k<<<1, 1>>>(); }",
    "auto g = cg::this_grid(); i = g.thread_rank(); block.sync();",
    "#include <vector>\n#include <torch/extension.h>\n#include <omp.h>\n",
    '#include "my_helpers.h"\n#include "cutils.h"\n#include <ATen/cuda/CUDAContext.h>\n',
    "#include <cuda_runtime.h>\n",
    "void curand_like_kernel(); int cudnn_style; float texture_weight; int cub, cute;",
    "cudaStreamIsCapturing(s, &status);",
    "torch::cudnn_is_acceptable(x); AT_CUDNN_ENABLED();",
]


@pytest.mark.parametrize("source", NOT_FOUND)
def test_what_is_emulated_or_not_code_is_not_found(source: str) -> None:
    assert unsupported(source) == []


def test_each_construct_is_found_once_in_the_order_of_the_lines() -> None:
    source = "thrust::a();\ncub::b();\nthrust::c();\n"
    assert unsupported(source) == [Construct("Thrust", 1), Construct("CUB", 2)]


EXPECTED = {
    "row_sum__async_copy": {"asynchronous copy"},
    "row_sum__cub_block_reduce": {"CUB"},
    "row_sum__grid_barrier": {"barrier of the grid", "cooperative launches"},
    "row_sum__thrust_sum": {"Thrust"},
    "squared_relu__cuda_graph": {"CUDA graphs"},
    "squared_relu__inline_ptx": {"inline PTX"},
    "squared_relu__texture": {"textures and surfaces"},
}


@pytest.mark.parametrize("name", SOURCES)
def test_candidates_of_the_repository_use_nothing_else(name: str) -> None:
    expected = EXPECTED.get(Path(name.split(":")[0]).stem, set())
    found = {c.name for c in unsupported(SOURCES[name]) if not c.name.startswith("header ")}
    assert found == expected


def log(*messages: str) -> str:
    return "\n".join(f"cuda.cu:{i + 7}:5: error: {text}" for i, text in enumerate(messages))


MISSING = {
    "‘cudaFooBar’ was not declared in this scope; did you mean ‘cudaFoo’?": "cudaFooBar",
    "'cudaFooBar' was not declared in this scope": "cudaFooBar",
    "there are no arguments to ‘__shfl_x’ that depend on a template parameter": "__shfl_x",
    "‘__nanosleepX’ was not declared in this scope": "__nanosleepX",
    "‘foo’ is not a member of ‘at::cuda’": "at::cuda::foo",
    "‘foo’ is not a member of ‘c10::cuda::impl’": "c10::cuda::impl::foo",
    "‘Foo’ in namespace ‘at::cuda’ does not name a type": "at::cuda::Foo",
    "‘at::cuda::Foo’ has not been declared": "at::cuda::Foo",
    "‘struct cudaDeviceProp’ has no member named ‘foo’": "cudaDeviceProp::foo",
    "‘using Type = class c10::cuda::CUDAStream’ has no member named ‘foo’": (
        "c10::cuda::CUDAStream::foo"
    ),
    "‘half2’ does not name a type": "half2",
    "‘hexp10’ was not declared in this scope": "hexp10",
    "‘atomicAddFoo’ was not declared in this scope": "atomicAddFoo",
    "‘make_float9’ was not declared in this scope": "make_float9",
    "‘CUDART_FOO_F’ was not declared in this scope": "CUDART_FOO_F",
    "‘CUDA_R_99F’ was not declared in this scope": "CUDA_R_99F",
    "‘AT_CUDA_FOO’ was not declared in this scope": "AT_CUDA_FOO",
    "‘cublasFoo’ was not declared in this scope": "cublasFoo",
    "‘cuCfoof’ was not declared in this scope": "cuCfoof",
    "‘nvcuda’ is not a namespace-name": "nvcuda",
    "‘foo’ is not a member of ‘nvcuda::wmma’": "nvcuda::wmma::foo",
    "‘tex2Dfoo’ was not declared in this scope": "tex2Dfoo",
    "‘normcdff’ was not declared in this scope": "normcdff",
    "expected type-specifier before ‘cudaFoo’": "cudaFoo",
}
OWN = [
    "‘helper’ was not declared in this scope",
    "‘blockIdxx’ was not declared in this scope; did you mean ‘blockIdx’?",
    "‘theadIdx’ was not declared in this scope",
    "‘CHECK_CUDA’ was not declared in this scope",
    "‘CUDA_CHECK’ was not declared in this scope",
    "‘cudaCheckError’ was not declared in this scope",
    "‘conv2d_forward’ was not declared in this scope",
    "‘foo’ is not a member of ‘at’",
    "‘make_unique2’ is not a member of ‘std’",
    "‘sum’ was not declared in this scope",
    "‘struct Params’ has no member named ‘cudaFoo’",
    "‘class at::Tensor’ has no member named ‘foo’",
    "expected ‘;’ before ‘}’ token",
    "cannot convert ‘float*’ to ‘cudaStream_t’",
]


@pytest.mark.parametrize("message", MISSING)
def test_an_unknown_name_of_cudas_may_be_our_gap(message: str) -> None:
    assert missing(log("‘x’ was not declared in this scope", message), "") == [
        Construct(MISSING[message], 8)
    ]


@pytest.mark.parametrize("message", OWN)
def test_other_errors_are_the_candidates_own(message: str) -> None:
    assert missing(log(message), "x = 1;") == []


def test_a_header_of_the_toolkit_may_be_our_gap() -> None:
    text = "cuda.cu:3:10: fatal error: {}: No such file or directory\n"
    assert missing(text.format("cufft.h"), "") == [Construct("cuFFT", 3)]
    assert missing(text.format("cuda_foo.h"), "") == [Construct("header cuda_foo.h", 3)]
    assert missing(text.format("my_kernels.h"), "") == []


def test_an_unknown_symbol_may_be_our_gap() -> None:
    text = "cuda.cu:(.text+0x19): undefined reference to `{}(int)'\n"
    assert missing(text.format("cudaFoo"), "") == [Construct("cudaFoo", 0)]
    assert missing(text.format("helper"), "") == []


@pytest.mark.parametrize(
    "text",
    [
        "__device__ float __half_sum(float x) { return x; }",
        "__half_sum = 3; float __half_sum;",
        "#define __half_sum(x) x",
        "struct __half_sum {};",
        "template <typename __half_sum> void f();",
        "{ float *__half_sum = x; }",
        "using __half_sum = int;",
        "typedef unsigned int __half_sum;",
    ],
)
def test_names_that_the_candidate_declares_are_its_own(text: str) -> None:
    assert missing(log("‘__half_sum’ was not declared in this scope"), text) == []


@pytest.mark.parametrize(
    "text",
    ["x = y * cudaFoo(1);", "return cudaFoo(1);", "f(a * cudaFoo(1));", "case cudaFoo: break;"],
)
def test_names_that_the_candidate_only_uses_are_not_its_own(text: str) -> None:
    found = missing(log("‘cudaFoo’ was not declared in this scope"), text)
    assert found == [Construct("cudaFoo", 7)]


def test_a_forgotten_header_of_torchs_is_the_candidates_own_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c10" / "cuda").mkdir(parents=True)
    header = tmp_path / "c10" / "cuda" / "CUDAException.h"
    header.write_text("// C10_CUDA_OTHER\n#define C10_CUDA_THIS(x) x\n")
    monkeypatch.setattr(constructs, "INCLUDE", tmp_path)
    text = log(
        "‘C10_CUDA_THIS’ was not declared in this scope",
        "‘C10_CUDA_OTHER’ was not declared in this scope",
    )
    assert missing(text, "") == [Construct("C10_CUDA_OTHER", 8)]


def test_the_log_of_the_installed_compiler_is_understood() -> None:
    source = "int f() { return cudaFoo(1) + helper(2); }\ncufftHandle h;\n__half x;\n"
    command = ["g++", "-fsyntax-only", "-x", "c++", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    found = missing(done.stderr, source)
    assert found == [Construct("cudaFoo", 1), Construct("cufftHandle", 2), Construct("__half", 3)]


PTX = 'asm volatile("wgmma.fence.sync.aligned;");'
GUARDS = {
    "ifdef": ("#ifdef __CUDA_ARCH_FEAT_SM90_ALL\n{}\n#endif", False),
    "if defined": ("#if defined(__CUDA_ARCH_FEAT_SM90_ALL)  // sm_90a\n{}\n#endif", False),
    "otherwise": ("#ifdef __CUDA_ARCH_FEAT_SM90_ALL\n;\n#else\n{}\n#endif", True),
    "unless": ("#ifndef __CUDA_ARCH_FEAT_SM90_ALL\n{}\n#endif", True),
    "unless, otherwise": ("#ifndef __CUDA_ARCH_FEAT_SM90_ALL\n;\n#else\n{}\n#endif", False),
    "within": ("#ifdef __CUDA_ARCH_FEAT_SM90_ALL\n#if N > 1\n;\n#else\n{}\n#endif\n#endif", False),
    "behind": ("#ifdef __CUDA_ARCH_FEAT_SM90_ALL\n;\n#endif\n{}", True),
    "in a comment": ("/*\n#ifdef __CUDA_ARCH_FEAT_SM90_ALL\n*/\n{}", True),
    "in a string": ('auto s = R"(\n#ifdef __CUDA_ARCH_FEAT_SM90_ALL\n)";\n{}', True),
    "never, otherwise": ("#if 0\n;\n#else\n{}\n#endif", True),
    "within never": ("#if 0\n#ifdef MINE\n;\n#else\n{}\n#endif\n#endif", False),
    "this architecture": ("#if __CUDA_ARCH__ >= 900\n{}\n#endif", True),
    "an older one": ("#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ < 700)\n{}\n#endif", False),
    "others": ("#if __CUDA_ARCH__ >= 800 && __CUDA_ARCH__ != 900\n{}\n#endif", False),
    "host only": ("#ifdef __CUDA_ARCH__\n;\n#else\n{}\n#endif", False),
    "not the host": ("#if !defined(__CUDA_ARCH__)\n{}\n#endif", False),
    "mine": ("#if MINE\n{}\n#endif", True),
    "mine, and an older one": ("#if MINE > 2 && __CUDA_ARCH__ < 800\n{}\n#endif", False),
    "mine, or an older one": ("#if MINE > 2 || __CUDA_ARCH__ < 800\n{}\n#endif", True),
    "arithmetic": ("#if __CUDA_ARCH__ / 100 == 8\n{}\n#endif", True),
    "no condition at all": ("#if ) && ((\n{}\n#endif", True),
    "one of two conditions": (
        "#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || defined(MINE)\n{}\n#endif",
        True,
    ),
}


@pytest.mark.parametrize(("guard", "seen"), GUARDS.values(), ids=GUARDS)
def test_what_only_an_architecture_s_own_features_let_in_is_not_looked_at(
    guard: str, seen: bool
) -> None:
    found = unsupported(source := guard.format(PTX))
    assert [c.name for c in found] == (["inline PTX"] if seen else [])
    assert all(PTX in source.splitlines()[c.line - 1] for c in found)


def test_the_headers_define_the_architecture_that_conditions_are_read_for() -> None:
    headers = (constructs.INCLUDE.parent / "slim").glob("*.h")
    defined = [
        line
        for h in headers
        for line in h.read_text().splitlines()
        if "#define __CUDA_ARCH__" in line
    ]
    assert set(defined) == {f"#define __CUDA_ARCH__ {ARCHITECTURE}"}
