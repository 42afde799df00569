"""Multi-scale testing (paper, section 5.2): the views of an image, and who is scored on which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from ohem_tf import boxes as box_ops
from ohem_tf import images

if TYPE_CHECKING:
    from ohem_tf.models.fast_rcnn import FastRCNN
    from ohem_tf.models.roi_network import Features

_BEST_AREA = 224.0**2  # pixels that a RoI has at the best scale, in SPPnet and in the release


class View(NamedTuple):
    """An image at one scale.

    Attributes:
      features: its feature maps, see `FastRCNN.image_features`.
      flipped: those of the flipped image, or None.
      size: [2] int32 height and width of the resized image.
      scale: [] float32 factor from the original to the resized image.
      used: [] bool; False if the cap made the scale equal to the one before.
    """

    features: Features
    flipped: Features | None
    size: tf.Tensor
    scale: tf.Tensor
    used: tf.Tensor


def make_views(
    model: FastRCNN,
    image: tf.Tensor,
    shortest_sides: Sequence[int],
    longest_side: int,
    flip: bool,
) -> list[View]:
    """Runs the backbone on an image at several scales, once for each view.

    Args:
      model: the detector.
      image: [H, W, 3] RGB in 0..255, any dtype, original size.
      shortest_sides: of the resized images, pixels, in any order.
      longest_side: cap of the longest side. Scales that it makes equal are computed once.
      flip: whether to compute the features of the flipped images too.

    Returns:
      One view per different shortest side, by ascending scale.
    """
    image = tf.cast(image, tf.float32)  # a GPU resizes no integers
    views: list[View] = []
    for side in sorted(set(shortest_sides)):
        resized, scale = images.resize(image, side, longest_side)

        def features(resized: tf.Tensor = resized) -> tuple[tf.Tensor, ...]:
            straight = model.image_features(resized)
            return (straight, model.image_features(resized[:, ::-1])) if flip else (straight,)

        if not views:
            used, maps = tf.constant(True), features()
        else:
            before = views[-1]
            used = scale > before.scale
            same = (before.features, before.flipped) if flip else (before.features,)
            maps = tf.cond(used, features, lambda same=same: same)
        size = tf.shape(resized)[:2]
        views.append(View(maps[0], maps[1] if flip else None, size, scale, used))
    return views


def assign(rois: tf.Tensor, views: Sequence[View], scale_choice: str) -> list[tf.Tensor]:
    """Which RoIs are scored at which scale.

    Args:
      rois: [R, 4] float32 pixels of the original image.
      views: by ascending scale.
      scale_choice: "best": each RoI at the scale at which its area in resized pixels is closest to
        224 x 224 (ties: the smaller scale), as SPPnet and the release; "all": at every scale.

    Returns:
      For each view the indices [R'] int32 of its RoIs, ascending; of a view that is not used, none.
    """
    if scale_choice == "all":
        chosen = [tf.fill(tf.shape(rois)[:1], view.used) for view in views]
    else:
        area = box_ops.area(rois)
        best = tf.zeros_like(area, tf.int32)
        least = tf.fill(tf.shape(area), np.float32(np.inf))
        for i, view in enumerate(views):  # an argmin would not say which of equals it takes
            distance = tf.abs(area * view.scale**2 - _BEST_AREA)
            best = tf.where(distance < least, i, best)
            least = tf.minimum(distance, least)
        chosen = [best == i for i in range(len(views))]
    return [tf.cast(tf.where(mask)[:, 0], tf.int32) for mask in chosen]


def score(
    model: FastRCNN, views: Sequence[View], rois: Sequence[tf.Tensor], width: tf.Tensor
) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Scores and regresses the RoIs of each view.

    With flipped images, a RoI is scored on both: the result is the mean of the two probabilities
    per class, and the mean of the two boxes per class (flipped back).

    Args:
      model: the detector.
      views: see `make_views`.
      rois: for each view [R, 4] float32 pixels of the original image.
      width: of the original image.

    Returns:
      For each view as `FastRCNN.score_rois`: [R, K+1] and [R, K+1, 4].
    """
    pairs = list(zip(views, rois, strict=True))
    straight = [(view.features, boxes, view.scale) for view, boxes in pairs]
    flipped = [
        (view.flipped, box_ops.flip(boxes, width), view.scale)
        for view, boxes in pairs
        if view.flipped is not None
    ]
    found = model.score_views([*straight, *flipped])
    if not flipped:
        return found
    return [
        ((scores + flipped_scores) / 2, (boxes + box_ops.flip(flipped_boxes, width)) / 2)
        for (scores, boxes), (flipped_scores, flipped_boxes) in zip(
            found[: len(views)], found[len(views) :], strict=True
        )
    ]
