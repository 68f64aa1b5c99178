"""A seccomp filter: the few system calls that the other mechanisms leave open are refused.

A deny-list, not an allow-list: torch, compilers and the CUDA driver make too many calls to list,
and the filter must never fail an honest kernel. It closes the network at every level, and the
calls that would reach around the file rules or other processes' memory at the weaker ones.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from harness.sandbox import _syscalls as sys_

_AUDIT_ARCH = {"x86-64": 0xC000_003E, "arm64": 0xC000_00B7}
_X32_BIT = 0x4000_0000

_REFUSED = {
    # name: (x86-64, arm64)
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    # Keyrings are shared with whoever started the harness.
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # Does what other system calls do, past this filter.
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # Needed by no kernel, and where many holes were found.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "open_by_handle_at": (304, 265),
    # A new user namespace would bring all capabilities back, inside it.
    "unshare": (272, 97),
    "setns": (308, 268),
}
_SOCKET = (41, 198)
_CLONE = (56, 220)
_CLONE3 = (435, 435)
_AF_UNIX = 1  # the CUDA driver makes one for its own use; Unix sockets leave no machine

_NEW_NAMESPACES = (
    sys_.CLONE_NEWNS
    | sys_.CLONE_NEWCGROUP
    | sys_.CLONE_NEWUTS
    | sys_.CLONE_NEWIPC
    | sys_.CLONE_NEWUSER
    | sys_.CLONE_NEWPID
    | sys_.CLONE_NEWNET
)

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF_0000, 0x8000_0000
_AT_NUMBER, _AT_ARCH, _AT_FIRST_ARGUMENT = 0, 4, 16

_SET_MODE_FILTER = 1
_SPEC_ALLOW = 4


def refuse_calls() -> bool:
    """Installs the filter, for good. Needs no_new_privs.

    Returns:
        Whether this kernel filters system calls.
    """
    if sys_.MACHINE is None:
        return False
    program = ctypes.create_string_buffer(_program(sys_.MACHINE))
    length = (len(program) - 1) // 8
    address = ctypes.addressof(program)
    description = struct.pack("@HP", length, address)
    # SPEC_ALLOW: before Linux 5.16 a filter would switch on a mitigation that slows all code of
    # the process, and so the candidate that is being clocked. Kernels before 4.17 lack the flag.
    for flags in (_SPEC_ALLOW, 0):
        try:
            sys_.syscall("seccomp", sys_.SECCOMP, _SET_MODE_FILTER, flags, description)
            return True
        except OSError:
            continue
    return False


def _program(machine: str) -> bytes:
    column = 0 if machine == "x86-64" else 1
    refuse = _refusal(errno.EPERM)
    code = [
        _op(_LOAD, _AT_ARCH),
        _op(_EQUAL, _AUDIT_ARCH[machine], 1, 0),
        _op(_RETURN, _KILL),  # 32-bit calls have other numbers
        _op(_LOAD, _AT_NUMBER),
    ]
    if machine == "x86-64":
        code += [_op(_AT_LEAST, _X32_BIT, 0, 1), _op(_RETURN, _refusal(errno.ENOSYS))]
    for numbers in _REFUSED.values():
        code += [_op(_EQUAL, numbers[column], 0, 1), _op(_RETURN, refuse)]
    # Its flags are behind a pointer; the C library then falls back to clone.
    code += [_op(_EQUAL, _CLONE3[column], 0, 1), _op(_RETURN, _refusal(errno.ENOSYS))]
    code += _if_argument(_SOCKET[column], _op(_EQUAL, _AF_UNIX, 1, 0))
    code += _if_argument(_CLONE[column], _op(_ANY_BIT, _NEW_NAMESPACES, 0, 1))
    code.append(_op(_RETURN, _ALLOW))
    return b"".join(code)


def _if_argument(number: int, skips_refusal: bytes) -> list[bytes]:
    """Decides one call by its first argument, which the given instruction tests."""
    return [
        _op(_EQUAL, number, 0, 4),
        _op(_LOAD, _AT_FIRST_ARGUMENT),
        skips_refusal,
        _op(_RETURN, _refusal(errno.EPERM)),
        _op(_RETURN, _ALLOW),
    ]


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _refusal(number: int) -> int:
    return 0x0005_0000 | number
