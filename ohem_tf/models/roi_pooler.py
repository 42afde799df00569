"""Pools RoIs from feature maps: which map a RoI reads, at which stride, and how."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from ohem_tf import boxes as box_ops
from ohem_tf.roi_pooling import POOLING, covered_cells

_CANONICAL_SIDE, _CANONICAL_STRIDE = 224.0, 16  # Lin et al. 2017, equation 1


class RoIPooler:
    """Pools the RoIs of one image from its feature maps.

    With several maps, a RoI reads the one that suits its area (Lin et al. 2017, equation 1): one of
    224 x 224 pixels that at stride 16, one of half that side that at stride 8, and so on; beyond
    the ends, the first or the last.

    Attributes:
      pool_size: P.
      strides: pixels per cell of each map, ascending, each twice the one before.
      kind: "max", the paper's RoI max pooling, or "align", RoIAlign.
    """

    def __init__(
        self, pool_size: int = 7, strides: Sequence[int] = (16,), kind: str = "max"
    ) -> None:
        self.pool_size = pool_size
        self.strides = tuple(strides)
        self.kind = kind
        self._pool = POOLING[kind]

    def __call__(self, features: Sequence[tf.Tensor], boxes: tf.Tensor) -> tf.Tensor:
        """Pools RoIs.

        Args:
          features: for each stride a map [1, h, w, C].
          boxes: [R, 4] float32 pixels of the image that the maps were computed from.

        Returns:
          [R, P, P, C], float32 or the dtype of the maps; see `roi_pooling`.
        """
        if len(self.strides) == 1:
            return self._pool_level(features[0], boxes, self.strides[0])
        levels = self.levels(boxes)
        members = [tf.where(levels == i)[:, 0] for i in range(len(self.strides))]
        pooled = [
            self._pool_level(maps, tf.gather(boxes, rows), stride)
            for maps, rows, stride in zip(features, members, self.strides, strict=True)
        ]
        return tf.gather(tf.concat(pooled, axis=0), tf.argsort(tf.concat(members, axis=0)))

    def levels(self, boxes: tf.Tensor) -> tf.Tensor:
        """[R] int32 index of the map that each of `boxes` [R, 4] reads."""
        # A side 2^k times the canonical one belongs to a stride 2^k times the canonical one. The
        # small number keeps an exact power of 2 from rounding to the level below.
        ratio = tf.sqrt(box_ops.area(boxes)) / _CANONICAL_SIDE * _CANONICAL_STRIDE / self.strides[0]
        level = tf.math.floor(tf.math.log(tf.maximum(ratio, 1e-6)) / tf.math.log(2.0) + 1e-6)
        return tf.clip_by_value(tf.cast(level, tf.int32), 0, len(self.strides) - 1)

    def cells(self, boxes: tf.Tensor) -> tf.Tensor:
        """All that pooling sees of `boxes` [R, 4]: RoIs with equal rows [R, 5] pool alike."""
        levels = self.levels(boxes)
        if self.kind == "max":
            strides = tf.gather(tf.constant(self.strides, tf.float32), levels)[:, None]
            boxes = tf.cast(covered_cells(boxes, strides), tf.float32)
        return tf.concat([tf.cast(levels, tf.float32)[:, None], boxes], axis=1)

    def distinct(self, boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Groups of RoIs that pool alike.

        Args:
          boxes: [R, 4] float32, as of `__call__`.

        Returns:
          The index of the first RoI of each group [G] and the group of each RoI [R], int32; groups
          in the order of their first RoIs.
        """
        cells = self.cells(boxes)
        # A row is one int64, since on a GPU TensorFlow finds distinct numbers, but no distinct
        # rows: the bits of two float32 are one, and two of those are numbered (R < 2^29).
        pairs = tf.bitcast(tf.reshape(cells[:, 1:], [-1, 2, 2]), tf.int64)
        near, far = (tf.unique(pairs[:, i], tf.int64)[1] for i in range(2))
        count = tf.shape(boxes, tf.int64)[0]
        row = (tf.cast(cells[:, 0], tf.int64) * count + near) * count + far
        groups, group = tf.unique(row)
        positions = tf.range(tf.shape(boxes)[0])
        return tf.math.unsorted_segment_min(positions, group, tf.size(groups)), group

    def _pool_level(self, features: tf.Tensor, boxes: tf.Tensor, stride: int) -> tf.Tensor:
        image_ids = tf.zeros(tf.shape(boxes)[:1], tf.int32)
        return self._pool(features, boxes, image_ids, self.pool_size, stride)
