"""Smaller and faster fully connected layers, for export: truncated SVD and stored half precision.

Fast R-CNN, section 3.1: a layer W [in, out] of the head, which is run on every RoI, becomes two
without a non-linearity between them, from the t largest singular values of W: [in, t] without a
bias, then [t, out] with that of the layer. That is t (in + out) multiplications instead of in x out
per RoI; the paper takes t = 1024 for fc6 and 256 for fc7.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import scipy.linalg

from ohem_tf.errors import InputError
from ohem_tf.models.heads import RoIHead


def check_ranks(widths: Sequence[tuple[int, int]], ranks: Sequence[int]) -> None:
    """Raises InputError unless every layer becomes smaller.

    Args:
      widths: (in, out) of fc6, fc7, ...
      ranks: see `compress`.
    """
    if len(ranks) > len(widths):
        raise InputError(
            f"--svd: {len(ranks)} ranks for {len(widths)} hidden layers; expected at most one each"
        )
    for i, ((inputs, outputs), rank) in enumerate(zip(widths, ranks, strict=False), start=6):
        largest = (inputs * outputs - 1) // (inputs + outputs)
        if rank and not 1 <= rank <= largest:
            raise InputError(
                f"--svd: rank {rank} for fc{i} [{inputs}, {outputs}]; expected 1 to {largest}, "
                "beyond which it would not become smaller, or 0 to leave it as it is"
            )


def widths(head: RoIHead) -> list[tuple[int, int]]:
    """(in, out) of the hidden layers fc6, fc7, ..."""
    return [tuple(layer.kernel.shape) for layer in head.hidden]


def compress(head: RoIHead, ranks: Sequence[int] = ()) -> None:
    """Replaces the hidden layers of `head` for good; nothing can train it afterwards.

    Their weights are then stored in the precision that they are computed in, rounded as each call
    would round them: half the bytes in bfloat16 and float16, the same detections.

    Args:
      head: of a model that is about to be exported.
      ranks: t of fc6, fc7, ...; 0, or none for the last layers: no SVD.

    Raises:
      InputError: as `check_ranks`.
    """
    check_ranks(widths(head), ranks)
    for i, layer in enumerate(head.hidden):
        kernel, bias = layer.get_weights()
        rank = ranks[i] if i < len(ranks) else 0
        if rank:
            first, second = truncated_svd(kernel, rank)
            left = _dense(f"{layer.name}_v", first, None, head.compute_in)
            right = _dense(f"{layer.name}_u", second, bias, head.compute_in)
            head.hidden[i] = keras.Sequential([left, right], name=layer.name)
        elif head.compute_in != "float32":
            head.hidden[i] = _dense(layer.name, kernel, bias, head.compute_in)


def truncated_svd(kernel: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The best approximation of `kernel` [in, out] by a product: [in, rank] and [rank, out].

    With the singular vectors V [out, rank] on the right it is (kernel V) V'. They are eigenvectors
    of the small matrix kernel' kernel: for VGG16's fc6 that is minutes faster than a whole SVD.
    """
    if len(kernel) < len(kernel.T):
        second, first = truncated_svd(kernel.T, rank)
        return first.T, second.T
    wide = np.asarray(kernel, np.float64)
    last = kernel.shape[1] - 1
    _, v = scipy.linalg.eigh(wide.T @ wide, subset_by_index=(last - rank + 1, last))
    return (wide @ v).astype(np.float32), v.T.astype(np.float32)


def _dense(
    name: str, kernel: np.ndarray, bias: np.ndarray | None, dtype: str
) -> keras.layers.Dense:
    layer = keras.layers.Dense(kernel.shape[1], use_bias=bias is not None, name=name, dtype=dtype)
    layer.build((None, kernel.shape[0]))
    layer.set_weights([kernel] if bias is None else [kernel, bias])
    return layer
