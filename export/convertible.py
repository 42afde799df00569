"""RoI pooling and NMS in operations that tf2onnx and OpenVINO convert, both of them right.

Their conversions of CropAndResize do not give RoIAlign: tf2onnx makes a loop over RoIs that
OpenVINO does not read, and OpenVINO's own is off by a tenth of a feature's standard deviation.
Where `ohem_tf` has what converts already, such as position-sensitive pooling, that is used as it
is.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ohem_tf.models.roi_pooler import RoIPooler
from ohem_tf.roi_pooling import roi_max_pool
from ohem_tf.settings import DetectionSettings


class ConvertiblePooler(RoIPooler):
    """A `RoIPooler` with the same results, for inference."""

    def __init__(self, like: RoIPooler, longest_side: int) -> None:
        """Pools as `like`, from maps of images with no side longer than `longest_side` pixels."""
        super().__init__(like.pool_size, like.strides, like.kind)
        self._longest_side = longest_side

    def _pool_level(self, features: tf.Tensor, boxes: tf.Tensor, stride: int) -> tf.Tensor:
        if self.kind == "align":
            return roi_align(features, boxes, self.pool_size, stride)
        if self.kind == "max":
            ids = tf.zeros(tf.shape(boxes)[:1], tf.int32)
            most_cells = self._longest_side // stride + 2  # a map may be padded
            return roi_max_pool(features, boxes, ids, self.pool_size, stride, most_cells)
        return super()._pool_level(features, boxes, stride)


def roi_align(features: tf.Tensor, boxes: tf.Tensor, pool_size: int, stride: int) -> tf.Tensor:
    """`roi_pooling.roi_align` of one image, by look-ups in a list of cells.

    Args:
      features: [1, H, W, C] float32.
      boxes: [R, 4] float32 RoIs in pixels of the image that the map was computed from.
      pool_size: P.
      stride: pixels per feature cell.

    Returns:
      [R, P, P, C] float32.
    """
    height, width = tf.unstack(tf.shape(features, tf.int64)[1:3])
    cells = tf.reshape(features, [-1, features.shape[-1]])
    ymin, xmin, ymax, xmax = tf.unstack(boxes / stride - 0.5, axis=1)
    y = _samples(ymin, ymax, height, pool_size)
    x = _samples(xmin, xmax, width, pool_size)

    def sampled(y: _Samples, x: _Samples) -> tf.Tensor:
        (y0, y1, down), (x0, x1, right) = y, x
        down, right = down[:, :, None, None], right[:, None, :, None]

        def row(y: tf.Tensor) -> tf.Tensor:
            near, far = (tf.gather(cells, (y * width)[:, :, None] + x[:, None]) for x in (x0, x1))
            return near + (far - near) * right

        top = row(y0)
        return top + (row(y1) - top) * down

    # One sample of each bin at a time: a quarter of the memory.
    return tf.add_n([sampled(j, i) for j in y for i in x]) / (len(y) * len(x))


_Samples = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def _samples(low: tf.Tensor, high: tf.Tensor, cells: tf.Tensor, pool_size: int) -> list[_Samples]:
    """Where the two samples of each bin lie along an axis.

    Args:
      low, high: [R] float32 edges of the RoIs, in cells; 0 is the centre of the first.
      cells: [] int64 of the map.
      pool_size: P.

    Returns:
      For each of the two the cell before and the one after it, and the way between them from 0 to
      1: [R, P] int64, int64, float32.
    """
    found = []
    for sample in (0.25, 0.75):
        centres = (np.arange(pool_size, dtype=np.float32) + np.float32(sample)) / pool_size
        at = low[:, None] + (high - low)[:, None] * centres
        at = tf.clip_by_value(at, 0.0, tf.cast(cells - 1, tf.float32))
        before = tf.floor(at)
        near = tf.cast(before, tf.int64)
        found.append((near, tf.minimum(near + 1, cells - 1), at - before))
    return found


def select(
    scores: tf.Tensor, boxes: tf.Tensor, settings: DetectionSettings
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Hard NMS in each class, then the best of all classes: `detection.select`, padded.

    Args:
      scores: [R, K+1] float32 class probabilities.
      boxes: [R, K+1, 4] float32.
      settings: its NMS is "hard".

    Returns:
      Boxes [D, 4], scores [D] and classes [D] float32, zeros after the number of detections [];
      D = `settings.max_detections`.
    """
    size = settings.max_detections
    # ONNX and TensorFlow ask for more than the threshold; here a score may equal it.
    threshold = np.float32(settings.score_threshold)
    least = float(np.nextafter(threshold, np.float32(-1.0))) if threshold else -1.0
    found = [(tf.zeros([size, 4]), tf.zeros([size]), tf.zeros([size]))]
    for class_ in range(scores.shape[1] - 1, 0, -1):
        of_class, its_boxes = scores[:, class_], boxes[:, class_]
        kept = tf.image.non_max_suppression(its_boxes, of_class, size, settings.nms_iou, least)
        label = tf.fill(tf.shape(kept), float(class_))
        found.insert(0, (tf.gather(its_boxes, kept), tf.gather(of_class, kept), label))
    boxes, scores, classes = (tf.concat(parts, axis=0) for parts in zip(*found, strict=True))
    count = tf.minimum(tf.size(scores) - size, size)
    scores, best = tf.math.top_k(scores, size)
    return tf.gather(boxes, best), scores, tf.gather(classes, best), tf.cast(count, tf.float32)
