"""Batches of the training stream, image by image, and what a step reports of them."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ohem_tf.losses import RoILosses
from ohem_tf.sampler import RoIs

Batch = dict[str, tf.Tensor]  # of data.pipeline.TrainingStream, or one image of `unbatch`


def unbatch(batch: Batch) -> list[Batch]:
    """The N images of a batch, each cut back to its own size, without padding."""
    images = []
    for i in range(batch["image"].shape[0]):
        image = {name: value[i] for name, value in batch.items()}
        height, width = tf.unstack(image["size"])
        proposals, gt = (tf.where(image[name])[:, 0] for name in ("proposals_mask", "gt_mask"))
        images.append(
            {
                "image": image["image"][:height, :width],
                "scale": image["scale"],
                "position": image["position"],
                "proposals": tf.gather(image["proposals"], proposals),
                "gt_boxes": tf.gather(image["gt_boxes"], gt),
                "gt_classes": tf.gather(image["gt_classes"], gt),
            }
        )
    return images


def mean(values: tf.Tensor) -> tf.Tensor:
    """Mean of `values` [K]; 0 for K = 0."""
    return tf.math.divide_no_nan(tf.reduce_sum(values), tf.cast(tf.shape(values)[0], values.dtype))


def image_metrics(
    cls: tf.Tensor, box: tf.Tensor, hard: RoIs, all_losses: RoILosses | None
) -> dict[str, tf.Tensor]:
    """What train_step reports of an image: means over its hard, and over all RoIs if known.

    The latter is NaN where `all_losses` are those of no RoI, though some were selected.
    """
    metrics = {
        "loss/hard": cls + box,
        "cls": cls,
        "box": box,
        "fg": mean(tf.cast(hard.labels > 0, tf.float32)),
    }
    if all_losses is not None:
        unknown = tf.logical_and(tf.size(all_losses.cls) == 0, tf.size(hard.labels) > 0)
        metrics["loss/all_rois"] = tf.where(unknown, np.nan, mean(all_losses.ranking))
    return metrics


def mean_metrics(metrics: list[dict[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
    """Means over the images."""
    return {name: tf.add_n([m[name] for m in metrics]) / len(metrics) for name in metrics[0]}
