"""Takes nvcc's own steps apart, so that what does not wait for each other runs side by side.

``nvcc --dryrun`` prints the commands that it would run. For one architecture they are two chains
and an end: preprocess for the host and split (``cudafe++``); preprocess for the device, compile
(``cicc``), assemble (``ptxas``, ``fatbinary``); compile the host's half. The device's chain takes
from the host's only the name that a unit goes by (the module id), which is written beforehand here.

Does not: change what a step is told. A list of steps that looks otherwise is left to nvcc.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_ASSIGNED = re.compile(r"#\$ ([A-Z_]+)=(.*)")
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "TOP", "CICC_PATH", "NVVMIR_LIBRARY_DIR")
_SHELL = re.compile(r"(?:^|\s)(?:\d?[<>]|\||&|;)")
_ORDER = ("split_source", "split", "device_source", "device", "assemble", "pack", "compile")


@dataclass(frozen=True)
class Stages:
    """The steps of one unit, as words."""

    environment: tuple[tuple[str, str], ...]
    split_source: list[str]
    split: list[str]
    device_source: list[str]
    device: list[str]
    assemble: list[str]
    pack: list[str]
    compile: list[str]
    module_id: str
    """The file that holds the unit's name."""
    host_code: str
    """What ``split`` makes and ``compile`` compiles."""


def stages(command: Sequence[str], folder: str, cwd: Path) -> Stages | None:
    """The steps of an nvcc command that compiles one unit, with their files in ``folder``.

    None where they are not those that are known.
    """
    asked = [*command, "--dryrun", "--keep", "--keep-dir", folder]
    done = subprocess.run(asked, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    return parse((done.stderr + done.stdout).splitlines(), cwd)


def parse(lines: Sequence[str], cwd: Path) -> Stages | None:
    """The steps that ``nvcc --dryrun`` printed."""
    variables, steps = {}, {}
    for line in lines:
        if (assigned := _ASSIGNED.match(line)) is not None:
            variables[assigned[1]] = assigned[2]
        elif line.startswith("#$ "):
            if _SHELL.search(line):
                return None
            words = [_expanded(w, variables) for w in shlex.split(line[3:])]
            kind = _kind(words)
            if kind is None or kind in steps:
                return None
            steps[kind] = words
    if set(steps) != set(_ORDER) or "--device-c" in steps["split"]:
        return None
    environment = tuple((n, variables[n]) for n in _KEPT_VARIABLES if n in variables)
    try:
        module_id = _after(steps["split"], "--module_id_file_name")
        host_code = _after(steps["split"], "--gen_c_file_name")
    except ValueError:
        return None
    # The host's half names the place of the work folder nowhere else; it is to be the same in all.
    steps = {kind: [w.removeprefix(f"{cwd}/") for w in words] for kind, words in steps.items()}
    steps["split"] = [w for w in steps["split"] if w != "--gen_module_id_file"]
    return Stages(environment, **steps, module_id=module_id, host_code=host_code)


def module_name(unit: str) -> str:
    """The name that a unit goes by within its library, in nvcc's own form.

    nvcc hashes the unit's text as well, to tell apart units that are linked together on the
    device; here device code is never linked, and the host's names are hidden in their library.
    """
    plain = re.sub(r"\W", "_", unit)
    hashed = f"{zlib.crc32(unit.encode()):08x}"
    return f"_{hashed}_{len(plain)}_{plain}_{hashed}"


def _kind(words: list[str]) -> str | None:
    program = os.path.basename(words[0])
    named = {"cudafe++": "split", "cicc": "device", "ptxas": "assemble", "fatbinary": "pack"}
    if program in named:
        return named[program]
    if "-E" in words:
        return "split_source" if words[-1].endswith(".cpp4.ii") else "device_source"
    return "compile" if "-c" in words else None


def _expanded(word: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$([A-Z_]+)", lambda m: variables.get(m[1], m[0]), word)


def _after(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]
