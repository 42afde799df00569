"""Convolutions of 3 x 3 cells by Winograd's minimal filtering, for processors without it.

Lavin and Gray, "Fast algorithms for convolutional neural networks" (CVPR 2016): 4 x 4 outputs of
one channel pair need 36 multiplications instead of 144. cuDNN does this by itself; oneDNN, which
convolves for TensorFlow on CPUs, does not.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

_TILE = 4  # outputs of a tile along each axis
_WINDOW = _TILE + 2  # inputs that they depend on

# Where polynomials are evaluated, besides at infinity. Lavin and Gray take 0, 1, -1, 2, -2, whose
# largest rounding error is five times this one's.
_POINTS = np.array([0.0, 0.75, -0.75, 1.5, -1.5])


def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Toom and Cook's algorithm: A^T [4, 6], G [6, 3], B^T [6, 6], float64.

    Of inputs d [6] and a kernel g [3], the outputs sum_k d[i + k] g[k] are A^T ((G g) * (B^T d)).
    """
    others = [np.delete(_POINTS, i) for i in range(len(_POINTS))]
    outputs = np.zeros((_TILE, _WINDOW))
    outputs[:, :-1] = _POINTS ** np.arange(_TILE)[:, None]
    outputs[-1, -1] = 1.0
    kernel = np.zeros((_WINDOW, 3))
    products = [np.prod(x - other) for x, other in zip(_POINTS, others, strict=True)]
    kernel[:-1] = _POINTS[:, None] ** np.arange(3) / np.array(products)[:, None]
    kernel[-1, -1] = 1.0
    inputs = np.zeros((_WINDOW, _WINDOW))
    inputs[:-1, :-1] = [np.poly(other)[::-1] for other in others]
    inputs[-1] = np.poly(_POINTS)[::-1]
    return outputs, kernel, inputs


# Along both axes at once: of flattened tiles.
_OUTPUTS, _KERNEL, _INPUTS = (np.kron(x, x).astype(np.float32) for x in _transforms())


def convolve(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """`tf.nn.conv2d` with stride 1 and "SAME" padding, forward only.

    On a CPU twice as fast from 128 channels on. Rounding errors are some 4 times as large: a few
    millionths of the largest value.

    Args:
      images: [N, H, W, C] float32.
      kernel: [3, 3, C, D] float32.

    Returns:
      [N, H, W, D] float32.
    """
    height, width = tf.unstack(tf.shape(images)[1:3])
    channels, filters = kernel.shape[2:]
    rows, columns = (-(-size // _TILE) for size in (height, width))  # of tiles
    # A tile more than there are, which holds the last windows' ends: its first two cells.
    padding = [[1, _TILE * (n + 1) - 1 - size] for n, size in ((rows, height), (columns, width))]
    tiles = tf.reshape(
        tf.pad(images, [[0, 0], *padding, [0, 0]]),
        [-1, rows + 1, _TILE, columns + 1, _TILE, channels],
    )
    tiles = tf.transpose(tiles, [2, 4, 0, 1, 3, 5])  # [4, 4, N, rows + 1, columns + 1, C]
    windows = tf.concat([tiles[:, :, :, :-1], tiles[:2, :, :, 1:]], axis=0)
    windows = tf.concat([windows[..., :-1, :], windows[:, :2, ..., 1:, :]], axis=1)
    transformed = _INPUTS @ tf.reshape(windows, [_WINDOW**2, -1])
    products = tf.matmul(
        tf.reshape(transformed, [_WINDOW**2, -1, channels]),
        tf.reshape(_KERNEL @ tf.reshape(kernel, [9, -1]), [_WINDOW**2, channels, filters]),
    )
    outputs = _OUTPUTS @ tf.reshape(products, [_WINDOW**2, -1])
    outputs = tf.reshape(outputs, [_TILE, _TILE, -1, rows, columns, filters])
    outputs = tf.reshape(
        tf.transpose(outputs, [2, 3, 0, 4, 1, 5]), [-1, _TILE * rows, _TILE * columns, filters]
    )
    return outputs[:, :height, :width]
