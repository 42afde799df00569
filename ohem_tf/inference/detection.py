"""From an image and its proposals to final detections: the one implementation of inference.

Evaluation, the detect binary and the exported model all run `detect`. Per-class NMS at 0.3 on the
regressed boxes, as Fast R-CNN; optionally several scales (multi_scale.py), iterative box regression
and box voting as in MR-CNN (paper, section 5.2), and Soft-NMS (nms.py), in any combination.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import tensorflow as tf

from ohem_tf import boxes as box_ops
from ohem_tf import nms
from ohem_tf.arrays import Array
from ohem_tf.inference import multi_scale
from ohem_tf.settings import DetectionSettings

if TYPE_CHECKING:
    from ohem_tf.models.fast_rcnn import FastRCNN


# A box with a lower score does not vote: beside a survivor of 0.05 it weighs one part in 5000 at
# most. The release's evaluation of OHEM ends at the same score.
LEAST_VOTE = 1e-5


class Detections(NamedTuple):
    """D detections of one image, sorted by descending score.

    Attributes:
      boxes: [D, 4] float32 pixels of the image.
      scores: [D] float32 in [0, 1].
      classes: [D] int32, 1-based.
    """

    boxes: tf.Tensor
    scores: tf.Tensor
    classes: tf.Tensor


def detect(
    model: FastRCNN, image: Array, proposals: Array | None, settings: DetectionSettings
) -> Detections:
    """Detects objects in one image.

    Args:
      model: the trained detector.
      image: [H, W, 3] RGB in 0..255, any dtype, original size.
      proposals: [R, 4] float32 pixels of `image`; R may be 0. None: the model's own, at the
        smallest scale.
      settings: see `DetectionSettings`.

    Returns:
      `Detections` in pixels of `image`.

    Raises:
      InputError: None, but the model needs proposals.
    """
    return select(collect(model, image, proposals, settings), settings)


def collect(
    model: FastRCNN, image: Array, proposals: Array | None, settings: DetectionSettings
) -> nms.Candidates:
    """Scored and regressed boxes of all rounds and scales: R_F of the paper (section 5.2).

    Iterative box regression as in MR-CNN: the candidates of a round with a high score are the RoIs
    of the next, each for its own class. A box keeps the score of the RoI that it was regressed
    from, so a round scores the boxes of the round before; those of the last are not scored again.
    Each RoI of each round chooses its scale anew.

    Args:
      model, image, proposals, settings: see `detect`.

    Returns:
      Candidates, clipped to the image. Those of a class in the order of rounds, then of scales,
      then of RoIs.
    """
    height, width = tf.unstack(tf.shape(image)[:2])
    views = multi_scale.make_views(
        model, image, settings.shortest_sides, settings.longest_side, settings.flip
    )
    if proposals is None:
        proposals = model.propose(views[0].features, views[0].size, views[0].scale)
    threshold = settings.score_threshold
    if settings.rounds > 1:
        threshold = min(threshold, settings.rescore_threshold)
    if settings.voting:
        threshold = min(threshold, LEAST_VOTE)

    def candidates_of(rois: tf.Tensor, classes: tf.Tensor | None = None) -> nms.Candidates:
        chosen = multi_scale.assign(rois, views, settings.scale_choice)
        scored = multi_scale.score(model, views, [tf.gather(rois, x) for x in chosen], width)
        parts = []
        for members, (scores, boxes) in zip(chosen, scored, strict=True):
            only = None if classes is None else tf.gather(classes, members)
            parts.append(candidates(scores, boxes, threshold, only))
        found = nms.merge(parts)
        return found._replace(boxes=box_ops.clip(found.boxes, height, width))

    rounds = [candidates_of(box_ops.first(proposals, settings.max_proposals))]
    for _ in range(1, settings.rounds):
        high = rounds[-1].at_least(settings.rescore_threshold)
        rois = nms.hard(high, settings.rescore_nms_iou, settings.rescore_max)
        rounds.append(candidates_of(rois.boxes, rois.classes))
    return nms.merge(rounds)


def candidates(
    scores: Array, boxes: Array, threshold: float, classes: Array | None = None
) -> nms.Candidates:
    """One candidate per RoI and class, where the score is high enough.

    Args:
      scores: [R, K+1] float32 class probabilities; class 0, background, gives none.
      boxes: [R, K+1, 4] float32.
      threshold: the least score.
      classes: None for all classes, or [R] int32: the only class of each RoI.

    Returns:
      Sorted by ascending class, within a class in the order of the RoIs.
    """
    label = tf.range(tf.shape(scores, tf.int64)[1])  # int32 is compared on the host
    asked = label > 0 if classes is None else label == tf.cast(classes, tf.int64)[:, None]
    found = tf.where(tf.transpose(tf.logical_and(scores >= threshold, asked)))
    class_, roi = found[:, 0], found[:, 1]
    where = tf.stack([roi, class_], axis=1)
    return nms.Candidates(
        tf.gather_nd(boxes, where), tf.gather_nd(scores, where), tf.cast(class_, tf.int32)
    )


def select(found: nms.Candidates, settings: DetectionSettings) -> Detections:
    """Thresholds, suppresses and votes per class, then keeps the best of all classes.

    Args:
      found: the candidates of all rounds. All of at least `LEAST_VOTE` vote, with these scores, so
        that a survivor's box does not depend on `score_threshold`.
      settings: see `DetectionSettings`.

    Returns:
      `Detections`.
    """
    shown = found.at_least(settings.score_threshold)
    if settings.nms == "hard":
        kept = nms.hard(shown, settings.nms_iou, settings.max_detections)
    else:
        kept = nms.gaussian(
            shown, settings.soft_nms_sigma, settings.score_threshold, settings.max_detections
        )
    order = tf.argsort(kept.scores, direction="DESCENDING", stable=True)
    kept = kept.take(order[: settings.max_detections])
    if settings.voting:
        voters = found.at_least(LEAST_VOTE)
        kept = kept._replace(boxes=_vote_per_class(kept, voters, settings.voting_iou))
    return Detections(*kept)


def _vote_per_class(
    kept: nms.Candidates, voters: nms.Candidates, iou_threshold: float
) -> tf.Tensor:
    """`vote` in each class apart: the boxes [D, 4] of `kept`, which may have any order."""
    present = tf.unique(kept.classes)[0]
    low, high = voters.range_of(present)

    def of_class(i: tf.Tensor, boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        members = tf.where(kept.classes == present[i])
        same = slice(low[i], high[i])
        voted = vote(
            tf.gather_nd(kept.boxes, members),
            voters.boxes[same],
            voters.scores[same],
            iou_threshold,
        )
        return i + 1, tf.tensor_scatter_nd_update(boxes, members, voted)

    return tf.while_loop(
        lambda i, _: i < tf.size(present),
        of_class,
        (tf.constant(0), kept.boxes),
        parallel_iterations=1,  # one matrix of IoUs at a time
    )[1]


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
