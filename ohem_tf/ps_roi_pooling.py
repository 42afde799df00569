"""Position-sensitive RoI pooling (Dai et al., "R-FCN", NIPS 2016, section 2)."""

from __future__ import annotations

import tensorflow as tf

from ohem_tf.arrays import Array


def ps_roi_pool(
    features: Array, boxes: Array, image_ids: Array, pool_size: int, stride: int
) -> tf.Tensor:
    """Averages in each bin of a RoI the channels that belong to that bin.

    In feature cells, along y (and likewise along x), as the Caffe layer of the release:

        start = floor(ymin + 0.5) / stride,  end = (floor(ymax - 1 + 0.5) + 1) / stride
        size  = max(end - start, 0.1) / P
        bin i = cells floor(start + i * size) up to ceil(start + (i + 1) * size)

    clipped to the map; an empty bin gives 0. The sum over a bin is that of four corners of the
    integral image, in float64: whatever a RoI's size, it costs four look-ups a bin.

    Args:
      features: [N, H, W, P * P * D] float maps; the D channels of bin (i, j) begin at
        (i * P + j) * D.
      boxes: [R, 4] float32 RoIs in pixels of the images that the maps were computed from.
      image_ids: [R] int32 index into N of each RoI's image.
      pool_size: P.
      stride: pixels per feature cell.

    Returns:
      [R, P, P, D] float32.
    """
    features = tf.convert_to_tensor(features)
    bins = pool_size**2
    depth = features.shape[-1] // bins
    height, width = tf.unstack(tf.shape(features, tf.int64)[1:3])
    ymin, xmin, ymax, xmax = tf.unstack(tf.cast(boxes, tf.float32), axis=-1)
    top, bottom = _bins(ymin, ymax, stride, height, pool_size)
    left, right = _bins(xmin, xmax, stride, width, pool_size)

    sums = tf.pad(tf.cast(features, tf.float64), [[0, 0], [1, 0], [1, 0], [0, 0]])
    sums = tf.reshape(tf.cumsum(tf.cumsum(sums, axis=1), axis=2), [-1, depth])
    image = tf.cast(image_ids, tf.int64)[:, None, None] * (height + 1)
    place = tf.reshape(tf.range(bins, dtype=tf.int64), [1, pool_size, pool_size])

    def corner(y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """The integral image [R, P, P, D] at rows `y` and columns `x` [R, P]."""
        cell = (image + y[:, :, None]) * (width + 1) + x[:, None, :]
        return tf.gather(sums, cell * bins + place)

    total = corner(bottom, right) - corner(top, right) - corner(bottom, left) + corner(top, left)
    area = (bottom - top)[:, :, None] * (right - left)[:, None, :]
    area = tf.cast(area, tf.float64)[..., None]
    return tf.cast(tf.math.divide_no_nan(total, area), tf.float32)


def _bins(
    near: tf.Tensor, far: tf.Tensor, stride: int, cells: tf.Tensor, pool_size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """First and last (exclusive) cell of each bin along an axis, [R, P] int64, clipped."""
    start = tf.floor(near + 0.5) / stride
    end = (tf.floor(far - 1.0 + 0.5) + 1.0) / stride
    size = tf.maximum(end - start, 0.1)[:, None] / pool_size
    edges = tf.range(pool_size + 1, dtype=tf.float32) * size + start[:, None]
    limit = tf.cast(cells, tf.float32)
    first = tf.clip_by_value(tf.floor(edges[:, :-1]), 0.0, limit)
    last = tf.clip_by_value(tf.math.ceil(edges[:, 1:]), 0.0, limit)
    return tf.cast(first, tf.int64), tf.cast(tf.maximum(first, last), tf.int64)
