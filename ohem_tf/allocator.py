"""Memory of this process: it keeps what is freed, so that large tensors cost no page faults."""

from __future__ import annotations

import ctypes
import pathlib
import platform
import resource

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Makes glibc's malloc reuse large blocks instead of returning each to the kernel.

    By default a block of more than 32 MB is mapped when it is allocated and unmapped when it is
    freed, and every page of it is faulted in and zeroed anew. The pooled features of all RoIs of an
    image are such a block: on a CPU, pooling spent four fifths of its time there.

    Returns:
      Whether this is glibc; elsewhere nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def peak_bytes() -> int:
    """The most that this process has had in memory so far."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # getrusage's begins with what the process was that started this one
        return 1024 * int(status.read_text(encoding="utf-8").split("VmHWM:")[1].split()[0])
    unit = 1 if platform.system() == "Darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
