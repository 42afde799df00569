"""What the processor can do."""

from __future__ import annotations

import functools
import pathlib

_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}


@functools.cache
def has_bfloat16(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Whether it has units for bfloat16, which TensorFlow emulates at great cost without.

    Args:
      cpuinfo: the file in which Linux lists what the processor has; without it, it has none.
    """
    path = pathlib.Path(cpuinfo)
    return path.is_file() and bool(_BFLOAT16 & set(path.read_text(encoding="utf-8").split()))
