"""The system calls that a program in the sandbox may not make: a filter in the kernel's own form, for bubblewrap.

Namespaces already take the machine away. The filter takes away what could get it back, or reach code of the kernel that
no Python program needs: new namespaces, mounts, tracing, keys, BPF, io_uring, handles of files, and memory that belongs
to no process, which only a control group would count. A denied call fails with EPERM, `clone3` with ENOSYS, upon which
the C library uses `clone`, whose flags can be looked at.
"""

from __future__ import annotations

import functools
import platform
import struct

_EPERM, _ENOSYS = 1, 38
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_AT_NUMBER, _AT_ARCHITECTURE, _AT_FIRST_ARGUMENT = 0, 4, 16
_NEW_USER_NAMESPACE = 0x10000000

_NEWER = {  # the same number on every architecture
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "mount_setattr": 442,
    "memfd_secret": 447,
}
_X86_64 = {
    **{
        "ptrace": 101,
        "pivot_root": 155,
        "chroot": 161,
        "mount": 165,
        "umount2": 166,
        "swapon": 167,
        "reboot": 169,
    },
    **{
        "init_module": 175,
        "delete_module": 176,
        "kexec_load": 246,
        "add_key": 248,
        "request_key": 249,
        "keyctl": 250,
    },
    **{
        "unshare": 272,
        "perf_event_open": 298,
        "name_to_handle_at": 303,
        "open_by_handle_at": 304,
        "setns": 308,
    },
    **{
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "finit_module": 313,
        "kexec_file_load": 320,
        "bpf": 321,
    },
    **{"shmget": 29, "semget": 64, "msgget": 68, "memfd_create": 319, "userfaultfd": 323, **_NEWER},
}
_AARCH64 = {
    **{
        "umount2": 39,
        "mount": 40,
        "pivot_root": 41,
        "chroot": 51,
        "unshare": 97,
        "kexec_load": 104,
        "init_module": 105,
    },
    **{"delete_module": 106, "ptrace": 117, "reboot": 142, "add_key": 217, "request_key": 218, "keyctl": 219},
    **{
        "swapon": 224,
        "perf_event_open": 241,
        "name_to_handle_at": 264,
        "open_by_handle_at": 265,
        "setns": 268,
    },
    **{
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "finit_module": 273,
        "bpf": 280,
        "userfaultfd": 282,
    },
    **{"msgget": 186, "semget": 190, "shmget": 194, "memfd_create": 279, "kexec_file_load": 294, **_NEWER},
}
_MACHINES = {  # audit number, denied calls, clone, and where calls of another ABI begin
    "x86_64": (0xC000003E, _X86_64, 56, 0x40000000),
    "aarch64": (0xC00000B7, _AARCH64, 220, None),
}
_CLONE3 = 435


@functools.cache
def filter_program() -> bytes | None:
    """The filter as an array of `struct sock_filter`, None on a machine whose call numbers are not listed here."""
    if platform.machine() not in _MACHINES:
        return None
    architecture, denied, clone, foreign = _MACHINES[platform.machine()]
    deny = _instruction(_RETURN, _ERRNO | _EPERM)
    program = [
        _instruction(_LOAD, _AT_ARCHITECTURE),
        _instruction(_JUMP_EQUAL, architecture, skip_if_true=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _AT_NUMBER),
    ]
    if foreign is not None:
        program += [_instruction(_JUMP_AT_LEAST, foreign, skip_if_false=1), deny]
    for number in sorted(denied.values()):
        program += [_instruction(_JUMP_EQUAL, number, skip_if_false=1), deny]
    program += [_instruction(_JUMP_EQUAL, _CLONE3, skip_if_false=1), _instruction(_RETURN, _ERRNO | _ENOSYS)]
    program += [
        _instruction(_JUMP_EQUAL, clone, skip_if_false=3),
        _instruction(_LOAD, _AT_FIRST_ARGUMENT),
        _instruction(_JUMP_BITS, _NEW_USER_NAMESPACE, skip_if_false=1),
        deny,
        _instruction(_RETURN, _ALLOW),
    ]
    return b"".join(program)


def _instruction(code: int, operand: int, *, skip_if_true: int = 0, skip_if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, skip_if_true, skip_if_false, operand)
