"""What a candidate uses that the emulated device has not.

``unsupported`` reads the candidate's text before the build, ``missing`` a compiler's log after a
build that failed. Does not: judge the candidate; a name that CUDA itself lacks looks like a gap of
ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice, takewhile
from pathlib import Path
from typing import NamedTuple

from harness.emulation._tokens import (
    Stream,
    Token,
    closing,
    enclosing_functions,
    line_of,
    mask,
    streams,
    without_comments,
)

INCLUDE = Path(__file__).parent / "native" / "include"
"""The headers that stand in for CUDA's."""


class Construct(NamedTuple):
    """Something that cannot be emulated, and its line, counted from 1."""

    name: str
    line: int


_NOT_MEMBER = r"(?<![\w.])(?<!->)"
_PATTERNS = {
    "CUTLASS": rf"{_NOT_MEMBER}(?:cutlass|CUTLASS)(?:::|_\w+)",
    "CuTe": rf"{_NOT_MEMBER}cute::",
    "CUB": rf"{_NOT_MEMBER}cub::",
    "Thrust": rf"{_NOT_MEMBER}thrust::",
    "libcu++": r"(?<!at::)(?<!c10::)(?<!torch::)(?<!\w)cuda::(?:std|ptx|barrier|pipeline\w*"
    r"|memcpy_async|atomic\w*|thread_scope\w*|aligned_size_t|access_property|annotated_ptr"
    r"|associate_access_property|apply_access_property|counting_semaphore|binary_semaphore|latch"
    r"|make_pipeline|device|experimental|mr|stream_ref|maximum|minimum|proclaim\w*)\b",
    "asynchronous copy": r"\b__pipeline_\w+|\bmemcpy_async\b|\bcuda_pipeline\w*",
    "textures and surfaces": r"\btexture\s*<|\btex(?:[123]D|Cubemap)\w*\s*[<(]"
    r"|\bsurf(?:[123]D|Cubemap)\w*\s*[<(]|\bcuda(?:Texture|Surface)Object_t\b"
    r"|\bcuda(?:Create|Destroy)(?:Texture|Surface)Object\b|\bcudaBindTexture\w*"
    r"|\bcudaMallocArray\b",
    "CUDA graphs": r"\bcudaGraph\w*|\bcudaStream(?:Begin|End)Capture\w*|\bCUDAGraph\b",
    "cooperative launches": r"\bcudaLaunchCooperativeKernel\w*",
    "thread block clusters": r"\b__cluster_dims__\b|\bcluster_group\b|\bthis_cluster\s*\("
    r"|\b__cluster\w*|\bcudaLaunchAttributeCluster\w*",
    "braces among a launch's arguments": r">>>\s*\((?:[^;]*?,)?\s*\{",
    "cudaLaunchKernelEx": r"\bcudaLaunchKernelExC?\b",
    "tensor memory accelerator (TMA)": r"\bCUtensorMap\w*|\bcuTensorMap\w+|\b__nv_tma\w*"
    r"|\bcp_async_bulk\w*",
    "compiler at run time (NVRTC)": r"\bnvrtc[A-Z]\w*|\bnvJitLink\w*",
    "CUDA driver API": r"\bcu(?:Launch|Module|Ctx|Init|Func|Link|Library|Device[A-Z]|Mem[A-Z]"
    r"|Stream[A-Z]|Event[A-Z]|GetProcAddress|Occupancy|Kernel)\w*\s*\(",
    "cuDNN": r"\bcudnn[A-Z]\w*|\bCUDNN_\w+",
    "cuFFT": r"\bcufft[A-Z]\w*|\bCUFFT_\w+",
    "cuSPARSE": r"\bcusparse[A-Z]\w*|\bCUSPARSE_\w+",
    "cuSOLVER": r"\bcusolver[A-Z]\w*|\bCUSOLVER_\w+",
    "cuRAND": r"\bcurand[A-Z]\w*|\bCURAND_\w+"
    r"|\bcurand(?:_(?:init|uniform|normal|log_normal|poisson|discrete)\w*)?\s*\(",
    "NCCL": r"\bnccl[A-Z]\w*",
}
_HEADERS = {
    r"cutlass/.*": "CUTLASS",
    r"cute/.*": "CuTe",
    r"cub/.*": "CUB",
    r"thrust/.*": "Thrust",
    r"cuda/.*": "libcu++",
    r"cudnn\w*\.h": "cuDNN",
    r"cufft\w*\.h": "cuFFT",
    r"cusparse\w*\.h": "cuSPARSE",
    r"cusolver\w*\.h": "cuSOLVER",
    r"curand\w*\.h": "cuRAND",
    r"nccl\.h": "NCCL",
    r"nvrtc\.h|nvJitLink\.h": "compiler at run time (NVRTC)",
    r"cuda_pipeline\w*\.h|cooperative_groups/memcpy_async\.h": "asynchronous copy",
    r"mma\.h": "WMMA",
    r"cuda[_A-Z]?\w*\.(?:h|hpp|cuh)|cublas\w*\.h|cuComplex\.h|cutensor\w*(?:/.*|\.h)|cupti\w*\.h"
    r"|cufile\.h|nvtx\w*/.*|nvToolsExt\w*\.h|nvml\.h|nvshmem\w*\.h|nvjpeg\.h|nv/.*|npp\w*\.h|crt/.*"
    r"|cooperative_groups(?:\.h|/.*)|device_(?:functions|launch_parameters|atomic_functions|types"
    r"|double_functions)\.h(?:pp)?|host_(?:config|defines)\.h|driver_(?:types|functions)\.h"
    r"|math_(?:functions|constants)\.h(?:pp)?|vector_(?:types|functions)\.h(?:pp)?"
    r"|builtin_types\.h|channel_descriptor\.h|common_functions\.h|library_types\.h"
    r"|(?:texture|surface)_\w+\.h|sm_\d+_\w+\.h(?:pp)?|fatbinary\w*\.h": "",
}
"""The CUDA toolkit's headers, and what they stand for."""

_INCLUDE_LINE = re.compile(
    r"""^[ \t]*#[ \t]*include[ \t]*[<"](?P<header>[^>"\n]+)[>"]""", re.MULTILINE
)


def unsupported(source: str) -> list[Construct]:
    """What the text uses that is not emulated, each once, in the order of the lines."""
    code = mask(source)
    found = [*_headers(source, code), *_patterns(code), *_grid_barriers(code)]
    for stream in streams(code):
        found += _assembly(source, stream)
    return _once([*found, *_nested_launches(code)])


def _once(found: Iterable[Construct]) -> list[Construct]:
    first: dict[str, int] = {}
    for construct in found:
        first[construct.name] = min(construct.line, first.get(construct.name, construct.line))
    ordered = sorted(first.items(), key=lambda item: (item[1], item[0]))
    return [Construct(name, line) for name, line in ordered]


def _headers(source: str, code: str) -> Iterator[Construct]:
    """The toolkit's headers that nothing stands in for."""
    for match in _INCLUDE_LINE.finditer(without_comments(source)):
        is_code = "include" in code[match.start() : match.end()]
        name = _lacking_header(match["header"].strip()) if is_code else None
        if name is not None:
            yield Construct(name, line_of(source, match.start("header")))


def _lacking_header(header: str) -> str | None:
    """What a header of the toolkit stands for; none where we have it or it is no such header."""
    if (INCLUDE / header).is_file():
        return None
    for pattern, name in _HEADERS.items():
        if re.fullmatch(pattern, header):
            return name or f"header {header}"
    return None


def _patterns(code: str) -> Iterator[Construct]:
    for name, pattern in _PATTERNS.items():
        match = re.search(pattern, code)
        if match is not None:
            yield Construct(name, line_of(code, match.start()))


def _grid_barriers(code: str) -> Iterator[Construct]:
    """Where all blocks wait for each other; a grid's other functions are there."""
    names = re.findall(r"\b(\w+)\s*[={(]\s*(?:\w+\s*::\s*)*this_grid\s*\(", code)
    names += re.findall(r"\bgrid_group\s*[&*]?\s*(\w+)", code)
    grid = "|".join([r"this_grid\s*\(\s*\)", *(rf"\b{name}" for name in names)])
    pattern = rf"(?:{grid})\s*(?:\.|->)\s*(?:sync|barrier_\w+)\s*\(|\bsync\s*\(\s*(?:{grid})\s*\)"
    for match in re.finditer(pattern, code):
        yield Construct("barrier of the grid", line_of(code, match.start()))


def _assembly(source: str, stream: Stream) -> Iterator[Construct]:
    """Assembly with text in it; without, it only keeps the compiler from moving code."""
    for at, token in enumerate(stream.tokens):
        if token.text not in ("asm", "__asm__", "__asm"):
            continue
        i = at + 1
        while i < len(stream.tokens) and stream.tokens[i].is_name:
            i += 1
        template = []
        if i < len(stream.tokens) and stream.tokens[i].text == "(":
            template = stream.tokens[i + 1 : closing(stream.tokens, i)]
        literals = list(takewhile(lambda t: t.text not in (":", "::"), template))
        said = "".join(source[literal.start : literal.end] for literal in literals)
        if said.replace('"', "").strip():
            yield Construct("inline PTX", line_of(source, token.start))


def _nested_launches(code: str) -> Iterator[Construct]:
    """Launches within functions of the device."""
    plain = streams(code)[0].tokens
    if not any(token.text == "<<<" for token in plain):
        return
    for token, function in zip(plain, enclosing_functions(code, plain)):
        if token.text == "<<<" and function is not None and _is_of_device(plain, function):
            yield Construct("dynamic parallelism", line_of(code, token.start))


def _is_of_device(plain: Sequence[Token], function: int) -> bool:
    header = takewhile(lambda token: token.text != "{", islice(plain, function, None))
    return any(token.text in ("__global__", "__device__") for token in header)


# ---- what a failed build speaks of ----

_QUOTED = "[\u2018'`](?P<{}>[^\u2018\u2019'`]+)[\u2019']"
_ERROR = re.compile(
    r"^(?P<file>[^\s:][^:\n]*):(?P<line>\d+):(?:\d+:)? (?:fatal )?error: (?P<message>.*)$",
    re.MULTILINE,
)
_UNDECLARED = re.compile(
    _QUOTED.format("name")
    + r"(?: in (?:namespace|class|struct) "
    + _QUOTED.format("scope")
    + r")? (?:was not declared|has not been declared|does not name a|is not a namespace-name"
    r"|is not a type|is not a template|is not a class)"
)
_NO_MEMBER = re.compile(
    _QUOTED.format("name") + r" is not a member of (?:" + _QUOTED.format("scope") + r"|the global)"
)
_NO_FIELD = re.compile(_QUOTED.format("owner") + " has no member named " + _QUOTED.format("name"))
_LATE = re.compile(r"there are no arguments to " + _QUOTED.format("name") + " that depend on")
_EXPECTED = re.compile(r"expected type-specifier before " + _QUOTED.format("name"))
_NO_FILE = re.compile(r"(?P<header>\S+): No such file or directory")
_UNLINKED = re.compile(r"undefined reference to " + _QUOTED.format("name"))

_CUDA_SCOPE = re.compile(
    r"(?:::)?(?:(?:at|c10|torch)::cuda|cooperative_groups|nvcuda|cuda|wmma)(?:::.*)?"
)
_CUDA_OWNER = re.compile(
    r"(?:at|c10|torch)::cuda::.*|cooperative_groups::.*|nvcuda::.*|cuda[A-Z].*|CU[a-z].*|cublas.*"
    r"|__half.*|__nv_.*"
)
_OWN_CHECK = r"(?:Err(?:or)?)?_?(?:Check|CHECK|Safe|SAFE|Assert|ASSERT|Call|CALL|Try|TRY)"
_CUDA_NAME = re.compile(
    rf"cuda(?!{_OWN_CHECK})[A-Z]\w*|cu[A-Z]\w*|CU[a-z]\w*"
    r"|(?:cublas|cudnn|cufft|curand|cusparse|cusolver|nccl|nvtx|nvrtc|nvml)\w*"
    r"|(?:CUBLAS|CUDNN|CUFFT|CURAND|CUSPARSE|CUSOLVER|CUDART|CUBLASLT)_\w+"
    rf"|CUDA_(?!(?:ERROR_)?(?:CHECK|CALL|SAFE|ASSERT|TRY|LAUNCH|POST))\w+|CUDA[A-Z][a-z]\w*"
    r"|(?:C10|AT|TORCH)_CUDA_\w+|\w*CUDA(?:Guard|Stream|Event|Blas|Context)\w*|cuda"
    r"|__[A-Za-z]\w*|nvcuda|nv_bfloat\w*|nv_half\w*|wmma|cooperative_groups"
    r"|atomic(?:Add|Sub|Exch|Min|Max|Inc|Dec|CAS|And|Or|Xor)\w*"
    r"|make_(?:u?(?:char|short|int|long|longlong)|float|double|half|bfloat16)\d\w*|make_cu\w+"
    r"|(?:u?(?:char|short|int|long|longlong)|float|double)[1-4](?:_\d+a)?|dim3|half2?|bfloat162?"
    r"|tex(?:[123]D|Cubemap)\w*|texture|surf(?:[123]D|Cubemap)\w*|surface"
    r"|h2?(?:exp|exp2|exp10|log|log2|log10|sqrt|rsqrt|rcp|sin|cos|tanh\w*|ceil|floor|trunc|rint)"
    r"|(?:rsqrt|rcbrt|sinpi|cospi|sincospi|sincos|erfcx|erfcinv|erfinv|normcdf|normcdfinv|norm3d"
    r"|norm4d|rnorm|rnorm3d|rnorm4d|rhypot|exp10|fdivide|cyl_bessel_i[01])f?"
    r"|(?:ll|ull|u)(?:min|max)|u?mul24|clock64|globaltimer|warpSize"
    r"|(?:threadIdx|blockIdx|blockDim|gridDim)|tiled_partition|thread_block(?:_tile)?"
    r"|this_thread_block|coalesced_(?:group|threads)"
)
_NO_TYPES = frozenset(
    {"return", "else", "case", "goto", "throw", "new", "delete", "do", "co_return"}
)


def missing(log: str, candidate_text: str) -> list[Construct]:
    """Names of CUDA's, or of torch's CUDA part, that a failed build could not find.

    Names that the candidate declares, or that a header of torch's declares which it forgot to
    include, are the candidate's own affair.
    """
    found = [
        Construct(name, int(error["line"]))
        for error in _ERROR.finditer(log)
        for name in _names(error["message"], candidate_text)
    ]
    found += [
        Construct(name, 0)
        for match in _UNLINKED.finditer(log)
        for name in _if_ours(re.split(r"[(<]", match["name"])[0], "", candidate_text)
    ]
    return _once(found)


def _names(message: str, text: str) -> list[str]:
    """What an error message says is missing, as far as that may be our fault."""
    if (match := _NO_FILE.search(message)) is not None:
        lacking = _lacking_header(match["header"])
        return [lacking] if lacking is not None else []
    if (match := _NO_FIELD.search(message)) is not None:
        owner = re.sub(r"^.*= |\b(?:const|volatile|struct|class|union)\s+", "", match["owner"])
        return [f"{owner}::{match['name']}"] if _CUDA_OWNER.fullmatch(owner) else []
    for pattern in (_NO_MEMBER, _UNDECLARED, _LATE, _EXPECTED):
        if (match := pattern.search(message)) is not None:
            return _if_ours(match["name"], match.groupdict().get("scope") or "", text)
    return []


def _if_ours(name: str, scope: str, text: str) -> list[str]:
    """A name that may be a gap of ours, in a list; an empty one for the candidate's own names."""
    qualified = f"{scope}::{name}" if scope else name
    scope, _, last = qualified.rpartition("::")
    of_cuda = _CUDA_SCOPE.fullmatch(scope) is not None
    if not of_cuda and (scope == "std" or _CUDA_NAME.fullmatch(last) is None):
        return []
    if _declares(text, last) or re.search(rf"\b{re.escape(last)}\b", _torch_headers(INCLUDE)):
        return []
    return [qualified]


def _declares(text: str, name: str) -> bool:
    """Whether a text declares or defines a name itself."""
    if name not in text:
        return False
    code = mask(text)
    word = re.escape(name)
    if re.search(
        rf"#\s*define\s+{word}\b|\b(?:struct|class|union|enum|namespace|using)\s+{word}\b"
        rf"|\btypename\s+{word}\s*[,>]|\btypedef\b[^;]*\b{word}\s*;",
        code,
    ):
        return True
    for match in re.finditer(rf"(?P<before>\w+|\*|&|>)\s*\b{word}\s*[(=;,\[{{)]", code):
        before = match["before"]
        if before in "*&>":
            before = _word_of_type(code[: match.start()])
        if before and before not in _NO_TYPES and not before[0].isdigit():
            return True
    return False


def _word_of_type(code: str) -> str:
    """The type before a ``*`` in a declaration that starts a statement; empty in an expression."""
    match = re.search(r"(?:^|[;{})]|\bconst|\b__device__|\binline|\bstatic)\s*(\w+)[\s*&>]*$", code)
    return match[1] if match is not None else ""


@cache
def _torch_headers(include: Path) -> str:
    """All code of our stand-ins for torch's CUDA headers."""
    folders = (include / "ATen", include / "c10", include / "torch")
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return "\n".join(mask(path.read_text(encoding="utf-8")) for path in files)
