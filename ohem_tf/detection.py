"""From an image and its proposals to final detections: the one implementation of inference.

Evaluation, the detect binary and the exported model all run `detect`. Per-class NMS at 0.3 on the
regressed boxes, as Fast R-CNN; optionally box voting as in MR-CNN (paper, section 5.2).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from ohem_tf import boxes as box_ops
from ohem_tf import images

if TYPE_CHECKING:
    from ohem_tf.detector import FastRCNN

Array = tf.Tensor | np.ndarray


class Detections(NamedTuple):
    """D detections of one image, in order of falling score.

    Attributes:
      boxes: [D, 4] float32 pixels of the image.
      scores: [D] float32 in [0, 1].
      classes: [D] int32, 1-based.
    """

    boxes: tf.Tensor
    scores: tf.Tensor
    classes: tf.Tensor


@dataclasses.dataclass(frozen=True)
class DetectionSettings:
    """Settings of inference.

    Attributes:
      shortest_side, longest_side: of the resized image in pixels, see `images.resize`.
      max_proposals: use the first so many proposals.
      score_threshold: drop lower scores before NMS. The release's baseline scripts take 0.05, its
        OHEM scripts 1e-5.
      nms_iou: suppress a box whose IoU with a better one of its class is greater.
      max_detections: of an image, over all classes (release: baseline 100, OHEM 2000).
      voting: whether each survivor's box becomes the mean of its neighbours (`vote`).
      voting_iou: IoU of the neighbours that vote.
    """

    shortest_side: int = 600
    longest_side: int = 1000
    max_proposals: int = 2000
    score_threshold: float = 0.05
    nms_iou: float = 0.3
    max_detections: int = 100
    voting: bool = False
    voting_iou: float = 0.5


def detect(
    model: FastRCNN, image: Array, proposals: Array, settings: DetectionSettings
) -> Detections:
    """Detects objects in one image.

    Args:
      model: the trained detector.
      image: [H, W, 3] RGB in 0..255, any dtype, original size.
      proposals: [R, 4] float32 pixels of `image`; R may be 0.
      settings: see `DetectionSettings`.

    Returns:
      `Detections` in pixels of `image`.
    """
    rois = tf.cast(proposals, tf.float32)[: settings.max_proposals]
    resized, scale = images.resize(image, settings.shortest_side, settings.longest_side)
    scores, boxes = model.predict_rois(resized, rois, scale)
    boxes = box_ops.clip(boxes, *tf.unstack(tf.shape(image)[:2]))
    return select(scores[:, 1:], boxes[:, 1:], settings)


def select(scores: Array, boxes: Array, settings: DetectionSettings) -> Detections:
    """Thresholds, suppresses and votes per class, then keeps the best of all classes.

    Args:
      scores: [M, K] float32 per class, background left out.
      boxes: [M, K, 4] float32 per class.
      settings: see `DetectionSettings`.

    Returns:
      `Detections`.
    """
    scores, boxes = tf.cast(scores, tf.float32), tf.cast(boxes, tf.float32)

    def of_class(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        candidates = tf.where(scores[:, index] >= settings.score_threshold)[:, 0]
        class_scores = tf.gather(scores[:, index], candidates)
        class_boxes = tf.gather(boxes[:, index], candidates)
        kept = tf.image.non_max_suppression(
            class_boxes, class_scores, settings.max_detections, settings.nms_iou
        )
        kept_boxes = tf.gather(class_boxes, kept)
        if settings.voting:
            kept_boxes = vote(kept_boxes, class_boxes, class_scores, settings.voting_iou)
        return kept_boxes, tf.gather(class_scores, kept), tf.fill(tf.shape(kept), index + 1)

    def append(index: tf.Tensor, found: Detections) -> tuple[tf.Tensor, Detections]:
        pairs = zip(found, of_class(index), strict=True)
        return index + 1, Detections(*(tf.concat(pair, axis=0) for pair in pairs))

    none = Detections(tf.zeros([0, 4]), tf.zeros([0]), tf.zeros([0], tf.int32))
    shapes = Detections(*(tf.TensorShape([None, *x.shape[1:]]) for x in none))
    _, found = tf.while_loop(
        lambda index, _: index < tf.shape(scores)[1],
        append,
        (tf.constant(0), none),
        shape_invariants=(tf.TensorShape([]), shapes),
    )
    order = tf.argsort(found.scores, direction="DESCENDING", stable=True)
    best = order[: settings.max_detections]
    return Detections(*(tf.gather(x, best) for x in found))


def vote(kept_boxes: Array, boxes: Array, scores: Array, iou_threshold: float = 0.5) -> tf.Tensor:
    """Box voting (MR-CNN): each kept box becomes the score-weighted mean of its neighbours.

    Args:
      kept_boxes: [K, 4] float32 survivors of the NMS of one class.
      boxes: [M, 4] float32 all boxes of the class that went into the NMS.
      scores: [M] float32 their scores.
      iou_threshold: a neighbour has IoU >= this with the kept box.

    Returns:
      [K, 4] float32. A box whose neighbours weigh nothing stays as it is.
    """
    kept_boxes = tf.cast(kept_boxes, tf.float32)
    is_neighbour = box_ops.iou(kept_boxes, boxes) >= iou_threshold
    # float64: a GPU multiplies float32 matrices with 10 bits of mantissa, half a pixel in 1000.
    weights = tf.where(is_neighbour, tf.cast(scores, tf.float64)[None, :], 0.0)
    total = tf.reduce_sum(weights, axis=1, keepdims=True)
    mean = tf.math.divide_no_nan(weights @ tf.cast(boxes, tf.float64), total)
    return tf.where(total > 0.0, tf.cast(mean, tf.float32), kept_boxes)
