"""Prepares this installation for shortened builds: headers that stand for torch's, precompiled.

Three kinds of folders, each made once and named by all that it depends on: the headers themselves,
and for each language and level of optimization what is precompiled, with what was found out when
the headers were held against torch's own. A header that torch would not bring, a caster between
C++ and Python that would be missing, or a compiler that refuses makes a kind unusable: it is
then built the stock way, and the note says why.

Does not: build candidates, or import torch.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness import preparing
from harness.build.fast import commands, plan, shim, stages
from harness.build.fast.commands import Compile
from harness.build.fast.looks import look
from harness.build.fast.prepared import BINDINGS, NOTE, PREFIX, Variant
from harness.build.spec import ExtensionSpec
from harness.build.units import Unit
from harness.devices import cxx, nvcc
from harness.errors import PreparationFault
from harness.preparing import torch_folder
from harness.version import __version__

_SOURCES = Path(__file__).parent
_LEVELS = ("", "-O2", "-O3")
_LEVEL = re.compile(r"-O(?:\w*)$")
_STANDARDS = ("", "-std=c++17", "-std=c++20")
_INLINE = ExtensionSpec(
    kind="inline", name="kernel_harness_prepares", cpp_sources=("",), functions=()
)


@dataclass(frozen=True)
class Preparation:
    """What is prepared below one folder, for one architecture."""

    root: Path
    architectures: str

    @property
    def key(self) -> str:
        """Changes with everything that decides what a shortened build gives."""
        return _key(self.architectures)

    def folders(self, spec: ExtensionSpec) -> dict[str, str | None]:
        """The folders that a build of ``spec`` reads, prepared now unless they were before.

        Raises:
            PreparationFault: the headers cannot even be written.
        """
        shim_folder = self.shim()
        usual = json.loads((shim_folder / NOTE).read_text())["standard"]
        cpp = _variant(spec.extra_cflags, usual)
        cuda = _variant(spec.extra_cuda_cflags, usual)
        return {
            "shim": str(shim_folder),
            "cpp": None if cpp is None else str(self._kind("cpp", cpp, shim_folder)),
            "cuda": (
                None
                if cuda is None or not spec.is_cuda
                else str(self._kind("cuda", cuda, shim_folder))
            ),
        }

    def found(self) -> dict[str, Variant]:
        """What was prepared already, by language and flags."""
        names = [p.name for p in self.root.glob(f"fast-{self.key}-*")]
        return {
            name.removeprefix(f"fast-{self.key}-"): Variant.at(self.root / name)
            for name in sorted(names)
        }

    def shim(self) -> Path:
        """The headers."""
        return preparing.once(
            self.root, f"fast-{self.key}", lambda folder: _shim(folder, self.architectures)
        )

    def _kind(self, kind: str, flags: tuple[str, ...], shim_folder: Path) -> Path:
        name = f"fast-{self.key}-{kind}{''.join(flags)}"
        make = _cpp if kind == "cpp" else _cuda

        def fill(folder: Path) -> None:
            try:
                note = make(folder, shim_folder, flags, self.architectures)
            except OSError:  # a full disk is no word on the compiler
                raise
            except Exception as fault:  # whatever it is, the stock build knows nothing of it
                note = _note([], {}, str(fault)[:2000] or repr(fault))
            (folder / NOTE).write_text(json.dumps(note))

        return preparing.once(self.root, name, fill)


def _variant(flags: Sequence[str], usual: str) -> tuple[str, ...] | None:
    """The level and the standard to prepare for; none for a standard that is not prepared.

    Whether what was prepared fits a unit's flags to the letter is asked again when it is built.
    """
    words = [word for flag in flags for word in flag.split()]
    level = ([w for w in words if _LEVEL.match(w)] or [""])[-1]
    standard = ([w for w in words if w.startswith("-std=")] or [usual])[-1]
    standard = standard if standard != usual else ""
    if standard not in _STANDARDS:
        return None
    return tuple(w for w in (level if level in _LEVELS else "", standard) if w)


@cache
def _key(architectures: str) -> str:
    return preparing.digest(
        (p for p in _SOURCES.rglob("*") if p.suffix in (".py", ".h")),
        _SOURCES,
        __version__,
        preparing.torch_build(),
        sysconfig.get_path("include"),
        preparing.version_of(cxx()),
        preparing.version_of(nvcc()),
        os.environ.get("CC", ""),
        os.environ.get("CUDA_HOME", ""),
        architectures,
    )


def _shim(folder: Path, architectures: str) -> None:
    shim.make(torch_folder() / "include", folder)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        (compile_,) = _commands(_INLINE, Path(scratch), architectures)
        for name in ("types", "extension"):
            source = _write(Path(scratch) / f"{name}.cpp", f"#include <torch/{name}.h>\n")
            brought = look(compile_.words, source).standard
            text = "".join(f"#include <{header}>\n" for header in brought)
            _write(folder / "kernel_harness" / f"{name}_standard.h", f"#pragma once\n{text}")
    standard = next((w for w in compile_.words if w.startswith("-std=")), "")
    note = {"linker": _linker(folder), "standard": standard}
    (folder / NOTE).write_text(json.dumps(note))


def _linker(folder: Path) -> list[str]:
    """mold, where there is one that the compiler can use."""
    if shutil.which("mold") is None:
        return []
    output = folder / "mold.so"
    try:
        preparing.run(
            [cxx(), "-fuse-ld=mold", "-shared", "-x", "c++", "/dev/null", "-o", str(output)]
        )
    except PreparationFault:
        return []
    output.unlink()
    return ["-fuse-ld=mold"]


def _note(identity: list[str], macros: dict[str, list[str]], unusable: str) -> dict[str, object]:
    return {"identity": identity, "macros": macros, "unusable": unusable}


def _cpp(folder: Path, shim_folder: Path, flags: Sequence[str], arch: str) -> dict[str, object]:
    spec = _INLINE.model_copy(update={"extra_cflags": tuple(flags)})
    (compile_,) = _commands(spec, folder, arch)
    slim = plan.slim_flags(shim_folder)
    header = folder / BINDINGS
    shutil.copy(shim_folder / "kernel_harness" / BINDINGS, header)
    # A macro that names the extension would tie the header to that name.
    words = [w for w in compile_.before(slim) if not w.startswith("-DTORCH_EXTENSION_NAME=")]
    source = _write(folder / "stock.cpp", "#include <torch/extension.h>\n")
    stock, ours, _ = _in_parallel(
        lambda: look(compile_.words, source),
        lambda: look(compile_.before(slim), header),
        lambda: preparing.run([*words, "-x", "c++-header", str(header), "-o", f"{header}.gch"]),
    )
    why = ours.beyond(stock, shim_folder.parent) or ours.lacks_casters(stock)
    return _note(compile_.identity, {"bindings": stock.macros_unlike(ours)}, why)


def _cuda(folder: Path, shim_folder: Path, flags: Sequence[str], arch: str) -> dict[str, object]:
    spec = _INLINE.model_copy(update={"cuda_sources": ("",), "extra_cuda_cflags": tuple(flags)})
    compile_ = next(c for c in _commands(spec, folder, arch) if c.cuda)
    unit = Unit("cuda.cu", *_implicit(folder / "cuda.cu"))
    steps = _empty_unit(folder, shim_folder, compile_, unit)
    stock = _steps(folder, compile_, "cuda.cu", [])
    theirs = stock.split_source[: stock.split_source.index("cuda.cu")]
    mine = steps.split_source[: steps.split_source.index(plan.cuda_file(unit.name))]
    extension = unit.whole + "\n#include <torch/extension.h>\n"
    types_, extension_, ours, _ = _in_parallel(
        lambda: look(theirs, folder / "cuda.cu"),
        lambda: look(theirs, _write(folder / "extension.cu", extension)),
        lambda: look(mine, folder / plan.cuda_file(unit.name), cwd=folder),
        lambda: _prefix(folder, steps),
    )
    macros = {"types": types_.macros_unlike(ours), "extension": extension_.macros_unlike(ours)}
    identity = commands.identity(steps.compile[1:])
    return _note(identity, macros, ours.beyond(types_, shim_folder.parent))


def _implicit(path: Path) -> tuple[tuple[str, ...], str]:
    """The lines that torch writes before a candidate's text, which is empty here."""
    lines = path.read_text().rstrip("\n").split("\n")
    return tuple(lines), ""


def _empty_unit(folder: Path, shim_folder: Path, compile_: Compile, unit: Unit) -> stages.Stages:
    needs = f"{plan.FOLDER}/cuda.cu.needs.h"
    (folder / plan.FOLDER).mkdir()
    _write(folder / needs, "#pragma once\n")
    source = plan.cuda_file(unit.name)
    _write(folder / source, plan.cuda_source(unit, needs, "cuda.cu"))
    steps = _steps(folder, compile_, source, plan.slim_flags(shim_folder))
    _write(folder / steps.module_id, stages.module_name(unit.name))
    return steps


def _steps(folder: Path, compile_: Compile, source: str, more: list[str]) -> stages.Stages:
    steps_folder = f"{plan.FOLDER}/{source.removeprefix('kernel_harness.')}.steps"
    (folder / steps_folder).mkdir(exist_ok=True)
    command = compile_.to("unused.o", source=source, more=more)
    if (steps := stages.stages(command, steps_folder, folder)) is None:
        raise PreparationFault("this nvcc works in steps that are not known")
    return steps


def _prefix(folder: Path, steps: stages.Stages) -> None:
    """Precompile what every unit's host code begins with."""
    environment = os.environ | dict(steps.environment)
    for words in (steps.split_source, steps.split):
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise PreparationFault(f"{shlex.join(words)[:300]}\n{done.stderr[-2000:]}")
    code = (folder / steps.host_code).read_text()
    prefix, found, _ = code.partition(f"typedef int {plan.SENTINEL}")
    if not found:
        raise PreparationFault("the host code does not show where its prefix ends")
    _write(folder / PREFIX, prefix)
    words = [w for w in steps.compile if w not in ("-c", steps.host_code)]
    words[words.index("-x") + 1] = "c++-header"
    words[words.index("-o") + 1] = f"{PREFIX}.gch"
    preparing.run([*words, PREFIX], cwd=folder)


def _commands(spec: ExtensionSpec, folder: Path, architectures: str) -> list[Compile]:
    """How torch would compile a spec whose sources are empty, written into ``folder``."""
    done = subprocess.run(
        [sys.executable, "-m", "harness.build.fast.probe", str(folder)],
        input=spec.model_dump_json(),
        env=os.environ | {"TORCH_CUDA_ARCH_LIST": architectures},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PreparationFault(f"torch does not say how it compiles: {done.stderr[-2000:]}")
    return [Compile(tuple(c.pop("words")), **c) for c in json.loads(done.stdout.splitlines()[-1])]


def _in_parallel(*tasks: Callable[[], object]) -> list[Any]:
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return [done.result() for done in [pool.submit(task) for task in tasks]]


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
