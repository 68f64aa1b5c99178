"""Checks the native text: are there kernels, are they launched, named, checked, on the stream.

An error only where a candidate certainly has no working kernel of its own; whatever could
not be resolved or is hidden by macros leaves a warning at most. Does not compile anything,
and does not know whether a kernel computes the right thing.
"""

from __future__ import annotations

import re
from collections import Counter

from harness.records import Finding
from harness.screening._blocks import check_blocks
from harness.screening._cuda import Native
from harness.screening._extension import Extensions
from harness.screening._module import Module
from harness.screening._report import ERROR, NOTE, WARNING, finding, listed

_LAUNCHES = r"<<<|\bcuda(?:Cooperative)?Launch\w*\b|\bcuLaunch\w*\b|\bcudaGraph\w*\b|##"
_CHECKS = (
    r"\bcudaGetLastError\b|\bcudaPeekAtLastError\b|\bC10_CUDA_KERNEL_LAUNCH_CHECK\b"
    r"|\bAT_CUDA_CHECK\b|\bC10_CUDA_CHECK\b|\bTORCH_CUDA_KERNEL_LAUNCH_CHECK\b"
)
_TEMPLATES = r"\bgpu_kernel\w*\b|\bthrust::|\bcub::|\bcutlass::|\bcute::|\bload_cubin\b"
_WEAK_NAME = re.compile(
    r"(?:my|cuda|the|new|custom|simple|test)?_?"
    r"(?:k|kern|kernel|krnl|f|fn|func|function|g|foo|bar|baz|qux|tmp|temp|test|main|run|do_it|thing)"
    r"_?(?:cuda|gpu|new)?_?\d*",
    re.IGNORECASE,
)
_OPERATORS = (
    "conv1d|conv2d|conv3d|convolution|_convolution|conv_transpose[123]d|cudnn_convolution"
    "|convolution_backward|matmul|mm|bmm|addmm|baddbmm|addmv|mv|einsum|linear|softmax|_softmax"
    "|log_softmax|relu|gelu|silu|sigmoid|tanh|layer_norm|batch_norm|group_norm|instance_norm"
    "|native_layer_norm|native_batch_norm|max_pool[123]d|avg_pool[123]d|adaptive_\\w+_pool[123]d"
    "|cumsum|cumprod|cross_entropy|cross_entropy_loss|nll_loss|mse_loss|embedding|lstm|gru"
    "|scaled_dot_product_attention|tensordot"
)
_LIBRARY_CALL = (
    rf"\b(?:at|torch)::(?:native::|nn::functional::)?(?:{_OPERATORS})(?:_out)?\s*\("
    r"|(?:\.|->)(?:matmul|mm|bmm|addmm|softmax|log_softmax|relu|conv2d|gelu)\s*\("
    r"|\b(?:cublas|cudnn|cusparse|cufft)[A-Z]\w*\s*\("
)


def check_presence(
    module: Module, extensions: Extensions, native: Native, *, on_cpu: bool
) -> list[Finding]:
    """R04: is there native code of the candidate's own at all?"""
    at = module.model_new
    if not extensions.found and not extensions.mentioned:
        if native.has_kernel and _is_dynamic(module):
            return [
                finding(
                    "R04",
                    WARNING,
                    at,
                    "There is kernel text, but no visible call of torch.utils.cpp_extension.",
                    "Build it with load_inline.",
                )
            ]
        what = "Its kernel text is never built" if native.has_kernel else "It builds no kernel"
        return [
            finding(
                "R04",
                ERROR,
                at,
                f"{what}: nothing calls load_inline or load of torch.utils.cpp_extension.",
                "Write the operator as a CUDA kernel and build it with load_inline.",
            )
        ]
    if on_cpu:
        return _check_native_source(extensions)
    if native.has_kernel:
        return []
    doubtful = not extensions.exact or re.search(r'#\s*include\s*"', _raw(native)) is not None
    if re.search(_TEMPLATES, native.code):
        doubtful = True
    line = extensions.found[0].call if extensions.found else at
    return [
        finding(
            "R04",
            WARNING if doubtful else ERROR,
            line,
            "The native sources hold no __global__ function"
            + (", as far as they can be read." if doubtful else "."),
            "Write the operator as a __global__ kernel and launch it.",
        )
    ]


def _check_native_source(extensions: Extensions) -> list[Finding]:
    if not extensions.exact or any(t.value.strip() for t in extensions.texts):
        return []
    return [
        finding(
            "R04",
            ERROR,
            extensions.found[0].call,
            "The extension is built from empty sources.",
            "Write the operator in C++ in cpp_sources.",
        )
    ]


def check_kernels(extensions: Extensions, native: Native) -> list[Finding]:
    """Launches, bodies, names, launch checks, streams, blocks, library calls."""
    found = [*_library_calls(native), *_host_habits(native)]
    if not native.has_kernel:
        return found
    return [
        *found,
        *_check_launched(extensions, native),
        *_check_bodies(extensions, native),
        *_check_names(native),
        *_check_launches(native),
        *check_blocks(native),
    ]


def _check_launched(extensions: Extensions, native: Native) -> list[Finding]:
    kernels = {kernel.name: kernel for kernel in native.kernels if kernel.defined}
    advice = "Launch it from a bound C++ function, or take it out."
    if kernels and not re.search(_LAUNCHES, native.code):
        included = re.search(r'#\s*include\s*"', _raw(native)) is not None
        certain = extensions.exact and not included
        line = min(kernel.line for kernel in kernels.values())
        message = f"No kernel is ever launched ({listed(kernels)})."
        return [finding("R04", ERROR if certain else WARNING, line, message, advice)]
    launched = {launch.kernel for launch in native.launches}
    definitions = Counter(kernel.name for kernel in native.kernels)
    pasted = "##" in native.code
    return [
        finding("R04", WARNING, kernel.line, f"The kernel {name} is never launched.", advice)
        for name, kernel in kernels.items()
        if name not in launched and not pasted and native.words[name] <= definitions[name]
    ]


def _check_bodies(extensions: Extensions, native: Native) -> list[Finding]:
    defined = [kernel for kernel in native.kernels if kernel.defined]
    empty = [kernel for kernel in defined if kernel.empty]
    if not empty:
        return []
    if len(empty) == len(defined) and extensions.exact:
        return [
            finding(
                "R04",
                ERROR,
                empty[0].line,
                f"Every kernel is empty ({listed(k.name for k in empty)}).",
                "Write the operator into the kernel.",
            )
        ]
    return [
        finding(
            "R04",
            WARNING,
            kernel.line,
            f"The kernel {kernel.name} is empty.",
            "Write its body, or take it out.",
        )
        for kernel in empty
    ]


def _check_names(native: Native) -> list[Finding]:
    weak = {
        kernel.name: kernel.line
        for kernel in reversed(native.kernels)
        if len(kernel.name) <= 2 or _WEAK_NAME.fullmatch(kernel.name)
    }
    return [
        finding(
            "R12",
            WARNING,
            line,
            f"The kernel name {name!r} does not say what it computes.",
            "Name the kernel after its operator, such as conv2d_forward_kernel.",
        )
        for name, line in weak.items()
    ]


def _check_launches(native: Native) -> list[Finding]:
    found: list[Finding] = []
    first = native.first(r"<<<")
    if first is not None and not re.search(_CHECKS, _raw(native)):
        found.append(
            finding(
                "screen.launch_check",
                WARNING,
                first,
                "No launch is checked, so a launch that fails leaves wrong values in silence.",
                "Put C10_CUDA_KERNEL_LAUNCH_CHECK() after every launch.",
            )
        )
    default = [
        launch.line
        for launch in native.launches
        if len(launch.config) < 4
        or (launch.config[3].text or b"") in (b"0", b"nullptr", b"NULL", b"cudaStreamDefault")
    ]
    if default:
        found.append(
            finding(
                "screen.stream",
                NOTE,
                min(default),
                "Kernels are launched on the default stream, not on PyTorch's current one "
                f"(line {listed(sorted(set(default)))}).",
                "Pass at::cuda::getCurrentCUDAStream() as the fourth launch argument.",
            )
        )
    return found


def _host_habits(native: Native) -> list[Finding]:
    found: list[Finding] = []
    if (line := native.first(r"\bcudaDeviceSynchronize\s*\(")) is not None:
        found.append(
            finding(
                "screen.synchronize",
                NOTE,
                line,
                "Host code waits for the whole device (cudaDeviceSynchronize).",
                "Leave it out; PyTorch orders work by streams.",
            )
        )
    if (line := native.first(r"(?<!f)\bprintf\s*\(|\bstd::cout\b")) is not None:
        found.append(
            finding(
                "R10",
                NOTE,
                line,
                "The native code prints.",
                "Take printf and std::cout out, and report errors with TORCH_CHECK.",
            )
        )
    return found


def _library_calls(native: Native) -> list[Finding]:
    calls: dict[str, int] = {}
    for line, text in native.all(_LIBRARY_CALL):
        calls.setdefault(text.rstrip("( \n\t").lstrip(".->"), line)
    return [
        finding(
            "R04",
            WARNING,
            line,
            f"The native code calls the library operator {name}.",
            "Let a kernel of your own do that work.",
        )
        for name, line in calls.items()
    ]


def _raw(native: Native) -> str:
    return "\n".join(source.text.value for source in native.sources)


def _is_dynamic(module: Module) -> bool:
    """Whether the file could build its kernels in a way that a scan cannot see."""
    names = module.mentions(module.tree)
    return bool(
        names
        & {
            "exec",
            "eval",
            "__import__",
            "import_module",
            "getattr",
            "_compile_kernel",
            "CDLL",
            "cuda_compile",
            "ctypes",
            "subprocess",
            "cpp_extension",
            "nvrtc",
            "compile_kernel",
        }
    )
