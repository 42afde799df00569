"""Which devices a process sees, and what several processes side by side get of a machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from ohem_tf.errors import InputError


def names() -> list[str]:
    """The devices of this machine, "CPU:0", "GPU:0", ..., without starting TensorFlow on them."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    cpus = tf.config.get_logical_device_configuration(cpu) or [None]
    gpus = tf.config.list_physical_devices("GPU")
    return [
        f"{kind}:{i}" for kind, found in (("CPU", cpus), ("GPU", gpus)) for i in range(len(found))
    ]


def use(chosen: Sequence[str]) -> list[str]:
    """Lets this process see, of the GPUs, those of `chosen` alone, and take memory as it needs it.

    TensorFlow would take nearly all memory of all GPUs. cuDNN's choice of algorithms by timing is
    switched off unless TF_CUDNN_USE_AUTOTUNE is set; see docs/gpus.md.

    Args:
      chosen: of `names`.

    Returns:
      What `chosen` are called in this process: GPU:3 alone is its GPU:0.

    Raises:
      InputError: this process has started TensorFlow without one of them.
    """
    os.environ.setdefault("TF_CUDNN_USE_AUTOTUNE", "0")
    gpus = {f"GPU:{i}": gpu for i, gpu in enumerate(tf.config.list_physical_devices("GPU"))}
    mine = [gpu for name, gpu in gpus.items() if name in chosen]
    try:
        tf.config.set_visible_devices(mine, "GPU")
        for gpu in mine:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        pass  # TensorFlow has started: what it sees is what there is
    visible = tf.config.get_visible_devices("GPU")
    seen = [name for name, gpu in gpus.items() if gpu in visible]
    for name in chosen:
        if name in gpus and name not in seen:
            raise InputError(
                f"--devices: {name} is out of reach, since TensorFlow has started in this process "
                f"with {', '.join(seen) or 'no GPU'}; start another process"
            )
    return [f"GPU:{seen.index(name)}" if name in gpus else name for name in chosen]


def use_one() -> None:
    """`use` of the first GPU; of others, if TensorFlow has started in this process with them."""
    with contextlib.suppress(InputError):
        use(("GPU:0",))


class Share(NamedTuple):
    """What one of several processes gets.

    Attributes:
      cores: numbers of processor cores.
      gpu: the GPU's name for CUDA_VISIBLE_DEVICES; None without GPUs.
    """

    cores: tuple[int, ...]
    gpu: str | None

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the environment of such a process, besides those of this one."""
        return {} if self.gpu is None else {"CUDA_VISIBLE_DEVICES": self.gpu}


def shares(jobs: int) -> list[Share]:
    """What each of `jobs` processes gets: its part of the cores and, if there are any, a GPU.

    Raises:
      InputError: fewer cores, or GPUs, than jobs.
    """
    cores = sorted(os.sched_getaffinity(0))
    gpus = tf.config.list_physical_devices("GPU")
    if not 1 <= jobs <= len(cores):
        raise InputError(f"--jobs is {jobs}; it must be from 1 to {len(cores)}, the cores at hand")
    if gpus and jobs > len(gpus):
        raise InputError(f"--jobs is {jobs}; it must be at most {len(gpus)}, the GPUs at hand")
    visible = [x for x in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if x]
    gpu_names: list[str | None] = [
        visible[i] if i < len(visible) else str(i) for i in range(len(gpus))
    ]
    ends = [i * len(cores) // jobs for i in range(jobs + 1)]
    return [
        Share(tuple(cores[ends[i] : ends[i + 1]]), gpu_names[i] if gpus else None)
        for i in range(jobs)
    ]
