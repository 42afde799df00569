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
    first_y, first_x, last_y, last_x = tf.unstack(covered_cells(boxes, stride), num=4, axis=-1)
    top, bottom = _bins(first_y, last_y, height, pool_size)
    left, right = _bins(first_x, last_x, width, pool_size)

    y_level, x_level = _floor_log2(bottom - top), _floor_log2(right - left)
    if most_cells:
        largest_bin = -(-most_cells // pool_size) + 1
        y_levels = x_levels = largest_bin.bit_length()
    else:
        y_levels, x_levels = (1 + tf.reduce_max(_or_zero(level)) for level in (y_level, x_level))
    table = _window_maxima(features, y_levels, axis=1)  # [Ly, N, H, W, C]
    table = tf.reshape(table, tf.stack([-1, height, width, channels]))
    table = _window_maxima(table, x_levels, axis=2)  # [Lx, Ly * N, H, W, C]
    table = tf.reshape(table, tf.stack([-1, channels]))

    # Row of the table = (((x level * Ly + y level) * N + image) * H + y) * W + x. The window at the
    # near edge of a bin and the one that ends at its far edge overlap and together cover it. An
    # empty bin, which may lie off the map, looks up row 0 and is set to 0 below.
    empty = tf.logical_or((bottom <= top)[:, :, None], (right <= left)[:, None, :])
    image_ids = tf.cast(image_ids, tf.int64)[:, None, None]
    plane = (x_level[:, None, :] * y_levels + y_level[:, :, None]) * count + image_ids

    def look_up(y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        row = (plane * height + y[:, :, None]) * width + x[:, None, :]
        return tf.gather(table, tf.where(empty, tf.zeros([], tf.int64), row))

    near_y, near_x = top, left
    far_y, far_x = bottom - _power_of_2(y_level), right - _power_of_2(x_level)
    pooled = tf.maximum(
        tf.maximum(look_up(near_y, near_x), look_up(near_y, far_x)),
        tf.maximum(look_up(far_y, near_x), look_up(far_y, far_x)),
    )
    pooled = tf.where(empty[..., None], tf.zeros([], features.dtype), pooled)
    return tf.ensure_shape(pooled, [None, pool_size, pool_size, features.shape[-1]])


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


def _bins(
    start: tf.Tensor, end: tf.Tensor, cells: tf.Tensor, pool_size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """First cell and one past the last cell of each bin along one axis: two [R, P] int64."""
    size = tf.maximum(end - start + 1, 1)[:, None]
    i = tf.range(pool_size, dtype=tf.int64)[None, :]
    first = start[:, None] + i * size // pool_size
    past = start[:, None] + ((i + 1) * size + pool_size - 1) // pool_size
    return tf.clip_by_value(first, 0, cells), tf.clip_by_value(past, 0, cells)


def _or_zero(levels: tf.Tensor) -> tf.Tensor:
    """Flat `levels` and a 0, so that the maximum of no levels at all is 0."""
    return tf.concat([tf.reshape(levels, [-1]), tf.zeros([1], levels.dtype)], axis=0)


def _floor_log2(x: tf.Tensor) -> tf.Tensor:
    """Exact floor(log2(x)) of int64 `x`; 0 for x < 2."""
    return tf.reduce_sum(tf.cast(x[..., None] >= _POWERS_OF_2[1:], tf.int64), axis=-1)


def _power_of_2(exponent: tf.Tensor) -> tf.Tensor:
    """2^`exponent`, int64."""
    return tf.gather(tf.constant(_POWERS_OF_2), exponent)


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

    def grow(k: tf.Tensor, half: tf.Tensor, current: tf.Tensor, maps: tf.TensorArray) -> tuple:
        current = tf.maximum(current, tf.roll(current, -half, axis))
        return k + 1, 2 * half, current, maps.write(k, current)

    levels = tf.cast(levels, tf.int32)
    maps = tf.TensorArray(values.dtype, levels, element_shape=values.shape)
    *_, maps = tf.while_loop(
        lambda k, *_: k < levels,
        grow,
        (tf.constant(1), tf.constant(1), values, maps.write(0, values)),
    )
    return maps.stack()


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
