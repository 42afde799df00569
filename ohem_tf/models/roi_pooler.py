"""Pools RoIs from feature maps: which map a RoI reads, at which stride, and how."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft
import tensorflow as tf

from ohem_tf import boxes as box_ops
from ohem_tf.ps_roi_pooling import ps_roi_pool
from ohem_tf.roi_pooling import POOLING, covered_cells

_COARSE = 3  # bins or cosines along each axis
_CANONICAL_SIDE, _CANONICAL_STRIDE = 224.0, 16  # Lin et al. 2017, equation 1


class RoIPooler:
    """Pools the RoIs of one image from its feature maps.

    With several maps, a RoI reads the one that suits its area (Lin et al. 2017, equation 1): one of
    224 x 224 pixels that at stride 16, one of half that side that at stride 8, and so on; beyond
    the ends, the first or the last.

    Attributes:
      pool_size: P.
      strides: pixels per cell of each map, ascending, each twice the one before.
      kind: "max", the paper's RoI max pooling; "align", RoIAlign; or "position_sensitive".
    """

    def __init__(
        self, pool_size: int = 7, strides: Sequence[int] = (16,), kind: str = "max"
    ) -> None:
        self.pool_size = pool_size
        self.strides = tuple(strides)
        self.kind = kind
        self._pool = {**POOLING, "position_sensitive": ps_roi_pool}[kind]

    def __call__(self, features: Sequence[tf.Tensor], boxes: tf.Tensor) -> tf.Tensor:
        """Pools RoIs.

        Args:
          features: for each stride a map [1, h, w, C]; further maps are not read.
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
            for maps, rows, stride in zip(features, members, self.strides, strict=False)
        ]
        return tf.gather(tf.concat(pooled, axis=0), tf.argsort(tf.concat(members, axis=0)))

    @property
    def coarse_basis(self) -> np.ndarray:
        """U [P, Q], see `coarse`."""
        basis = _interpolation if self.kind == "align" else _cosines
        return basis(self.pool_size, min(_COARSE, self.pool_size))

    def coarse(self, features: Sequence[tf.Tensor], boxes: tf.Tensor) -> tf.Tensor:
        """Less than what pooling gives, which stands for all of it.

        RoIAlign is done with Q x Q bins, between which U interpolates linearly. The P x P maxima of
        RoI max pooling, which bins of another size do not have, are projected on the Q lowest
        cosines along each axis (a DCT).

        Args:
          features, boxes: as of `__call__`.

        Returns:
          z [R, Q, Q, C] float32 for Q = 3, or P if that is less: for each RoI and channel,
          U z U^T is about what `__call__` returns, with U of `coarse_basis`.
        """
        basis = self.coarse_basis
        size = basis.shape[1]
        if self.kind == "align":
            return RoIPooler(size, self.strides, self.kind)(features, boxes)
        pooled = tf.cast(self(features, boxes), tf.float32)
        channels = pooled.shape[-1]
        planes = np.kron(basis, basis).T.astype(np.float32)
        coarse = tf.matmul(planes, tf.reshape(pooled, [-1, self.pool_size**2, channels]))
        return tf.reshape(coarse, [-1, size, size, channels])

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


def _interpolation(points: int, knots: int) -> np.ndarray:
    """[points, knots]: values at the centres of `points` bins from those of `knots` bins, linearly.

    The bins divide one interval; beyond the outermost knots the line goes on.
    """
    if points == knots:
        return np.eye(points)
    position = (np.arange(points) + 0.5) / points * knots - 0.5
    left = np.clip(np.floor(position), 0, knots - 2).astype(int)
    weights = np.zeros((points, knots))
    weights[np.arange(points), left] = left + 1 - position
    weights[np.arange(points), left + 1] = position - left
    return weights


def _cosines(points: int, count: int) -> np.ndarray:
    """[points, count]: the lowest `count` vectors of the orthonormal DCT of `points` values."""
    return scipy.fft.idct(np.eye(points, count), axis=0, norm="ortho")
