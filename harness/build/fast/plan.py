"""Writes the build of a spec in which less is parsed and more runs side by side.

From torch's own ``build.ninja`` comes every command; what is changed of it is where headers are
found first, and that nvcc's steps stand apart. Each unit says why it is not shortened, if so.

Does not: run the build, or touch the stock build beside it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness.build import units
from harness.build.fast import commands, shim, stages
from harness.build.fast.commands import Compile
from harness.build.fast.prepared import BINDINGS, Prepared, Variant
from harness.build.fast.reading import Reading, read
from harness.build.spec import ExtensionSpec
from harness.build.units import Unit

FILE = "fast.ninja"
FOLDER = "fast"
SENTINEL = "kernel_harness_prefix_ends_here"
_SLIM = "-DAT_PER_OPERATOR_HEADERS"


@dataclass
class Plan:
    """What was written."""

    library: str = ""
    """Where the library will lie; empty where nothing is linked."""
    reasons: list[str] = field(default_factory=list)
    """Units that are not shortened, and why."""
    edges: list[str] = field(default_factory=list)

    def add(self, output: str, inputs: Iterable[str], command: str, *others: str) -> None:
        """Write one step: what it makes, what it waits for, and what the shell runs."""
        made = " ".join(map(_path, (output, *others)))
        needs = " ".join(map(_path, inputs))
        self.edges.append(f"build {made}: run {needs}\n  command = {command.replace('$', '$$')}\n")


def write(spec: ExtensionSpec, directory: Path, prepared: Prepared, *, linked: bool) -> Plan:
    """Write ``fast.ninja`` beside the ``build.ninja`` of a spec, if all its units are shortened."""
    (directory / FOLDER).mkdir(exist_ok=True)
    plan = Plan()
    by_name = {unit.name: unit for unit in units.of(spec)}
    included = [text for _, text in units.headers(spec)]
    readings = {name: _read(unit, included, prepared) for name, unit in by_name.items()}
    plan.reasons = [
        f"{name} {reading.stock}" for name, reading in readings.items() if reading.stock
    ]
    if plan.reasons:
        return plan
    objects = {}
    # What is listed first is begun first: a CUDA unit takes longest.
    for compile_ in sorted(commands.compiles(directory), key=lambda c: not c.cuda):
        unit = by_name[Path(compile_.source).name]
        reading = readings[unit.name]
        objects[compile_.object] = f"{FOLDER}/{compile_.object}"
        step = _cuda if compile_.cuda else _cpp
        step(plan, unit, compile_, objects[compile_.object], reading, directory, prepared)
    if linked:
        plan.library = f"{FOLDER}/{spec.name}.so"
        words = commands.link(directory, f"{spec.name}.so")
        words = [objects.get(w, w) for w in words]
        words[words.index("-o") + 1] = plan.library
        if not any(w.startswith("-fuse-ld") for w in words):
            words[1:1] = prepared.linker
        plan.add(plan.library, objects.values(), shlex.join(words))
    # The log is to hold what compilers say, and nothing of what they are told.
    text = "rule run\n  command = $command\n  description = $out\n" + "".join(plan.edges)
    (directory / FILE).write_text(text)
    return plan


def cuda_source(unit: Unit, needs: str, path: str) -> str:
    """The text of a CUDA unit, after the headers that it needs.

    What stands before the sentinel is the same for every unit that torch writes.
    """
    head = unit.implicit or ("#include <torch/types.h>",)
    return "\n".join(
        [
            *head,
            f"typedef int {SENTINEL};",
            f'#include "{needs}"',
            f'#line {1 + len(unit.implicit)} "{path}"',
            unit.text,
        ]
    )


def cuda_file(unit: str) -> str:
    """Where that text lies, in the folder of the unit itself."""
    return f"kernel_harness.{unit}"


def slim_flags(headers: Path) -> list[str]:
    """What is put before the flags of a shortened unit."""
    return [_SLIM, f"-I{headers}"]


def _read(unit: Unit, included: list[str], prepared: Prepared) -> Reading:
    variant = prepared.cuda if unit.name.endswith(".cu") else prepared.cpp
    if variant is None:
        return Reading(stock="has nothing prepared for it")
    if variant.unusable:
        return Reading(stock=f"cannot be shortened here: {variant.unusable}")
    return read(unit, included, shim.operators(prepared.shim), variant.macros)


def _cpp(
    plan: Plan,
    unit: Unit,
    compile_: Compile,
    output: str,
    reading: Reading,
    directory: Path,
    prepared: Prepared,
) -> None:
    more: list[str] = []
    if prepared.cpp is not None:
        needs = f"{FOLDER}/{unit.name}.needs.h"
        _includes(directory / needs, reading.headers)
        same = compile_.identity == prepared.cpp.identity
        where = prepared.cpp.directory if same else prepared.shim / "kernel_harness"
        includes = ["-include", str(where / BINDINGS), "-include", needs]
        more = [*slim_flags(prepared.shim), *includes]
    plan.add(output, [], shlex.join(compile_.to(output, more=more)))


def _cuda(
    plan: Plan,
    unit: Unit,
    compile_: Compile,
    output: str,
    reading: Reading,
    directory: Path,
    prepared: Prepared,
) -> None:
    needs = f"{FOLDER}/{unit.name}.needs.h"
    _includes(directory / needs, reading.headers)
    source, more = cuda_file(unit.name), slim_flags(prepared.shim)
    (directory / source).write_text(cuda_source(unit, needs, compile_.source))
    command = compile_.to(output, source=source, more=more)
    folder = f"{FOLDER}/{unit.name}.steps"
    (directory / folder).mkdir(exist_ok=True)
    steps = stages.stages(command, folder, directory)
    if steps is None:
        plan.add(output, [], shlex.join(command))
        return
    (directory / steps.module_id).write_text(stages.module_name(unit.name))
    _chains(plan, steps, output, prepared.cuda)


def _chains(plan: Plan, steps: stages.Stages, output: str, variant: Variant | None) -> None:
    exported = " ".join(f"{n}={shlex.quote(v)}" for n, v in steps.environment)

    def step(words: list[str], inputs: list[str], *made: str) -> None:
        plan.add(made[0], inputs, f"export {exported}; {shlex.join(words)}", *made[1:])

    stem = steps.host_code.removesuffix(".cudafe1.cpp")
    step(steps.split_source, [], f"{stem}.cpp4.ii")
    step(steps.split, [f"{stem}.cpp4.ii"], steps.host_code)
    step(steps.device_source, [], f"{stem}.cpp1.ii")
    step(steps.device, [f"{stem}.cpp1.ii"], f"{stem}.ptx", f"{stem}.cudafe1.stub.c")
    step(steps.assemble, [f"{stem}.ptx"], _output(steps.assemble))
    step(steps.pack, [_output(steps.assemble)], f"{stem}.fatbin.c")
    needed = [steps.host_code, f"{stem}.cudafe1.stub.c", f"{stem}.fatbin.c"]
    command = shlex.join(steps.compile)
    if variant is not None and variant.prefix is not None:
        command = _after_prefix(steps, variant)
    plan.add(output, needed, f"export {exported}; {command}")


def _after_prefix(steps: stages.Stages, variant: Variant) -> str:
    """Compile what follows the precompiled prefix, if what precedes it is that very text."""
    whole = shlex.join(steps.compile)
    if variant.prefix is None or commands.identity(steps.compile[1:]) != variant.identity:
        return whole
    rest = steps.host_code.removesuffix(".cpp") + ".rest.cpp"
    words = [rest if w == steps.host_code else w for w in steps.compile]
    words[1:1] = ["-include", str(variant.prefix)]
    size = variant.prefix.stat().st_size
    code = shlex.quote(steps.host_code)
    return (
        f"if cmp -s -n {size} {shlex.quote(str(variant.prefix))} {code}; "
        f"then tail -c +{size + 1} {code} > {shlex.quote(rest)} && {shlex.join(words)}; "
        f"else {whole}; fi"
    )


def _includes(path: Path, headers: Iterable[str]) -> None:
    path.write_text("#pragma once\n" + "".join(f"#include <{h}>\n" for h in headers))


def _output(words: list[str]) -> str:
    return words[words.index("-o") + 1]


def _path(name: str) -> str:
    return name.replace("$", "$$").replace(" ", "$ ").replace(":", "$:")
