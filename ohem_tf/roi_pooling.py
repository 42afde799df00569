"""Exact RoI max pooling (Fast R-CNN, section 2.1; the cells of the Caffe layer), and RoIAlign."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ohem_tf.arrays import Array

_POWERS_OF_2 = 2 ** np.arange(31, dtype=np.int64)


def roi_max_pool(
    features: Array,
    boxes: Array,
    image_ids: Array,
    pool_size: int,
    stride: int,
    most_cells: int = 0,
) -> tf.Tensor:
    """Max-pools each RoI into a `pool_size` x `pool_size` grid.

    In feature cells, along y (and likewise along x):

        start = floor(ymin / stride + 0.5),  end = floor((ymax - 1) / stride + 0.5)
        size  = max(end - start + 1, 1)
        bin i = cells start + floor(i * size / P) up to start + ceil((i + 1) * size / P)

    in integers, clipped to the map. Bins overlap; an empty bin gives 0. Caffe computes the bins in
    float32, which differs in one bin for sizes up to 63 (the last of 7 in a RoI of 57 cells).

    The maximum over any bin is the maximum of four windows of 2^i x 2^j cells that cover it, so a
    table of window maxima, built once per image, and four look-ups per bin give the exact result.
    The gradient goes to one cell per bin and channel.

    Indices are int64: TensorFlow computes with int32 on the host where the data are on a GPU.

    Args:
      features: [N, H, W, C] float feature maps.
      boxes: [R, 4] float32 RoIs in pixels of the images that the maps were computed from.
      image_ids: [R] int32 index into N of each RoI's image.
      pool_size: P.
      stride: pixels per feature cell.
      most_cells: no map is higher or wider. The table then is as large as that may ask for, and its
        graph has no loop; 0: as large as these RoIs ask for.

    Returns:
      [R, P, P, C], the dtype of `features`.
    """
    features = tf.convert_to_tensor(features)
    count, height, width, channels = tf.unstack(tf.shape(features, tf.int64))
    near, past = _bins(covered_cells(boxes, stride), tf.stack([height, width]), pool_size)
    level = _floor_log2(past - near)  # [R, 2, P], as all of one number per axis and bin
    if most_cells:
        largest_bin = -(-most_cells // pool_size) + 1
        y_levels = x_levels = largest_bin.bit_length()
    else:
        y_levels, x_levels = tf.unstack(1 + tf.maximum(tf.reduce_max(level, axis=[0, 2]), 0))
    table = _window_maxima(features, y_levels, axis=1)  # [Ly, N, H, W, C]
    table = tf.reshape(table, tf.stack([-1, height, width, channels]))
    table = _window_maxima(table, x_levels, axis=2)  # [Lx, Ly * N, H, W, C]
    table = tf.reshape(table, tf.stack([-1, channels]))

    # Row of the table = (((x level * Ly + y level) * N + image) * H + y) * W + x. The window at the
    # near edge of a bin and the one that ends at its far edge overlap and together cover it. An
    # empty bin, which may lie off the map, looks up row 0 and is set to 0 below.
    image_ids = tf.cast(image_ids, tf.int64)[:, None, None]
    plane = (level[:, 1, None, :] * y_levels + level[:, 0, :, None]) * count + image_ids
    start = tf.stack([near, past - tf.gather(tf.constant(_POWERS_OF_2), level)])  # [2, R, 2, P]
    y, x = start[:, None, :, 0, :, None], start[None, :, :, 1, None, :]
    rows = (plane * height + y) * width + x  # [2, 2, R, P, P]
    no_cells = past <= near
    empty = tf.logical_or(no_cells[:, 0, :, None], no_cells[:, 1, None, :])
    pooled = _largest(table, tf.where(empty, tf.zeros([], tf.int64), rows), empty[..., None])
    return tf.ensure_shape(pooled, [None, pool_size, pool_size, features.shape[-1]])


@tf.custom_gradient
def _largest(table: tf.Tensor, rows: tf.Tensor, empty: tf.Tensor) -> tuple:
    """The largest of four rows of `table` [T, C], for each channel.

    Args:
      table: float.
      rows: [2, 2, R, P, P] int64.
      empty: [R, P, P, 1] bool, where the result is 0.

    Returns:
      [R, P, P, C], and its gradient: automatic differentiation would add up four dense tables.
    """
    values = [tf.gather(table, rows[i, j]) for i in range(2) for j in range(2)]
    pairs = [tf.maximum(*values[:2]), tf.maximum(*values[2:])]
    zero = tf.zeros([], table.dtype)
    pooled = tf.where(empty, zero, tf.maximum(*pairs))

    def gradient(of_pooled: tf.Tensor) -> tuple:
        of_pooled = tf.where(empty, zero, of_pooled)
        parts: list[tf.Tensor] = []
        for of_pair, (one, other) in zip(
            _split(of_pooled, pairs[0] >= pairs[1]), (values[:2], values[2:]), strict=True
        ):
            parts += _split(of_pair, one >= other)
        of_rows = tf.reshape(tf.stack(parts), [-1, table.shape[1]])
        count = tf.shape(table, tf.int64)[0]
        return tf.math.unsorted_segment_sum(of_rows, tf.reshape(rows, [-1]), count), None, None

    return pooled, gradient


def _split(gradient: tf.Tensor, first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What of a maximum's `gradient` goes to the `first` argument, and what to the other."""
    zero = tf.zeros([], gradient.dtype)
    return tf.where(first, gradient, zero), tf.where(first, zero, gradient)


def covered_cells(boxes: Array, stride: int) -> tf.Tensor:
    """All that `roi_max_pool` sees of its RoIs: first and last cell along y and x.

    Args:
      boxes: [R, 4] float32 RoIs in pixels.
      stride: pixels per feature cell.

    Returns:
      [R, 4] int64 [first y, first x, last y, last x], not clipped to the map.
    """
    far_edges = tf.constant([0.0, 0.0, 1.0, 1.0])
    return tf.cast(tf.floor((tf.cast(boxes, tf.float32) - far_edges) / stride + 0.5), tf.int64)


def _bins(cells: tf.Tensor, limits: tf.Tensor, pool_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """First cell and one past the last cell of each bin.

    Args:
      cells: [R, 4] int64 of `covered_cells`.
      limits: [2] int64 height and width of the map.
      pool_size: P.

    Returns:
      Two [R, 2, P] int64, along y and along x.
    """
    start, end = cells[:, :2, None], cells[:, 2:, None]
    size = tf.maximum(end - start + 1, 1)
    i = np.arange(pool_size)
    first = start + i * size // pool_size
    past = start + ((i + 1) * size + pool_size - 1) // pool_size
    limits = limits[:, None]
    return tuple(tf.maximum(tf.minimum(x, limits), 0) for x in (first, past))


def _floor_log2(x: tf.Tensor) -> tf.Tensor:
    """Exact floor(log2(x)) of int64 `x`; 0 for x < 2."""
    return tf.reduce_sum(tf.cast(x[..., None] >= _POWERS_OF_2[1:], tf.int64), axis=-1)


def _window_maxima(values: tf.Tensor, levels: tf.Tensor | int, axis: int) -> tf.Tensor:
    """Stacks `levels` maps [levels, ...]: entry k holds the maximum over 2^k cells along `axis`.

    Windows that run over the end of the axis wrap around; no bin ever looks one up.
    """
    if isinstance(levels, int):
        unrolled = [values]
        for k in range(levels - 1):
            here = unrolled[-1]
            unrolled.append(tf.maximum(here, tf.roll(here, -(2**k), axis)))
        return tf.stack(unrolled)
    count = tf.cast(levels, tf.int32)

    def grow(k: tf.Tensor, half: tf.Tensor, current: tf.Tensor, maps: tf.TensorArray) -> tuple:
        current = tf.maximum(current, tf.roll(current, -half, axis))
        return k + 1, 2 * half, current, maps.write(k, current)

    @tf.custom_gradient
    def maxima(values: tf.Tensor) -> tuple:
        maps = tf.TensorArray(values.dtype, count, element_shape=values.shape)
        *_, maps = tf.while_loop(
            lambda k, *_: k < count,
            grow,
            (tf.constant(1), tf.constant(1), values, maps.write(0, values)),
        )
        table = maps.stack()

        def gradient(of_table: tf.Tensor) -> tf.Tensor:
            """Level by level down; automatic differentiation would keep and copy all of them."""

            def descend(k: tf.Tensor, half: tf.Tensor, of_level: tf.Tensor) -> tuple:
                below = table[k - 1]
                here, moved = _split(of_level, below >= tf.roll(below, -half, axis))
                return k - 1, half // 2, of_table[k - 1] + here + tf.roll(moved, half, axis)

            last = count - 1
            *_, of_values = tf.while_loop(
                lambda k, *_: k > 0,
                descend,
                (last, tf.bitwise.left_shift(1, last) // 2, of_table[last]),
            )
            return of_values

        return table, gradient

    return maxima(values)


def roi_align(
    features: Array, boxes: Array, image_ids: Array, pool_size: int, stride: int
) -> tf.Tensor:
    """RoIAlign (He et al., Mask R-CNN, section 3): means of bilinear samples, nothing rounded.

    Not the paper's pooling: for small images, where many proposals share their feature cells. Each
    bin is the mean of 2 x 2 samples at its quarter points; a feature cell stands for the centre of
    its `stride` pixels; samples beyond the centres of the outermost cells take their value.

    Args and result are those of `roi_max_pool`, but that the result is float32.
    """
    samples = 2 * pool_size
    # One cell more on each side, so that no sample lies off the map.
    features = tf.cast(features, tf.float32)
    features = tf.pad(features, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    low, high = tf.split(tf.cast(boxes, tf.float32) / stride + 0.5, 2, axis=1)
    half_step = (high - low) / samples / 2.0
    corners = tf.concat([low + half_step, high - half_step], axis=1)
    last_cell = tf.cast(tf.tile(tf.shape(features)[1:3], [2]) - 1, tf.float32)
    image_ids = tf.cast(image_ids, tf.int32)
    sampled = tf.image.crop_and_resize(features, corners / last_cell, image_ids, [samples] * 2)
    pooled = tf.nn.avg_pool2d(sampled, 2, 2, "VALID")
    return tf.ensure_shape(pooled, [None, pool_size, pool_size, features.shape[-1]])


POOLING = {"max": roi_max_pool, "align": roi_align}
