"""Random changes to training images, in TensorFlow; boxes and proposals follow.

All of them are functions of a seed, so that the stream of examples stays a function of (seed,
position). The paper has none but flips and scales.
"""

from __future__ import annotations

import tensorflow as tf

from ohem_tf import boxes as box_ops
from ohem_tf.settings import AugmentSettings

# What random numbers are for. The model's own, of the same seed and position, count from 0.
_JITTER, _WHETHER, _CROP, _COLOUR, _CUTOUT = range(100, 105)
_KEPT_SHARE = 0.5  # of a box's area, for it to stay in a crop
_HUE = 0.1  # of the circle of hues, at a colour strength of 1


def scale_factor(seed: tf.Tensor, strength: float) -> tf.Tensor:
    """The factor on the shortest side, [] float32.

    Args:
      seed: [2] int32, of the example.
      strength: s; the factor's logarithm is uniform between those of 1 / (1 + s) and 1 + s.
    """
    limit = tf.math.log(1.0 + strength)
    return tf.exp(tf.random.stateless_uniform([], _fold(seed, _JITTER), -limit, limit))


def crop_window(
    height: tf.Tensor, width: tf.Tensor, objects: tf.Tensor, seed: tf.Tensor, min_side: float
) -> tf.Tensor:
    """A random window of an image, around one of its objects at least.

    Args:
      height, width: [] int32, pixels.
      objects: [G, 4] float32; of 0 objects the window lies anywhere.
      seed: [2] int32, of the example.
      min_side: the least height and width of the window, as a share of the image's.

    Returns:
      [4] int32 ymin, xmin, ymax, xmax.
    """
    random = tf.random.stateless_uniform([5], _fold(seed, _CROP))
    size, count = tf.stack([height, width]), tf.shape(objects)[0]
    real = tf.cast(size, tf.float32)
    # Of an inverted box nothing has to stay.
    nothing = tf.concat([real, tf.zeros([2])], axis=0)
    place = tf.minimum(tf.cast(random[4] * tf.cast(count, tf.float32), tf.int32), count - 1)
    box = tf.cond(count > 0, lambda: objects[place], lambda: nothing)
    low, high = tf.floor(box[:2]), tf.math.ceil(box[2:])
    least = tf.maximum(tf.maximum(min_side * real, high - low), 1.0)
    side = tf.minimum(tf.round(least + random[:2] * (real - least)), real)
    # The window begins between `first` and `last`, so that it holds the object and the image it.
    first = tf.maximum(high - side, 0.0)
    last = tf.maximum(tf.minimum(low, real - side), first)
    start = tf.cast(tf.round(first + random[2:4] * (last - first)), tf.int32)
    end = tf.minimum(start + tf.cast(side, tf.int32), size)
    return tf.concat([start, end], axis=0)


def into_window(boxes: tf.Tensor, window: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Boxes in the coordinates of a window.

    Args:
      boxes: [N, 4] float32, pixels of the image.
      window: [4] int32.

    Returns:
      [N, 4] float32, cut to the window, and [N] bool: whether half of a box's area lies in it.
    """
    window = tf.cast(window, tf.float32)
    offset = tf.concat([window[:2], window[:2]], axis=0)
    size = window[2:] - window[:2]
    kept = box_ops.ioa(boxes, window[None])[:, 0] >= _KEPT_SHARE
    return box_ops.clip(boxes - offset, size[0], size[1]), kept


def crop(
    image: tf.Tensor,
    gt_boxes: tf.Tensor,
    gt_classes: tf.Tensor,
    proposals: tf.Tensor,
    seed: tf.Tensor,
    settings: AugmentSettings,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Cuts a window out of an image with probability `settings.crop`.

    Args:
      image: [H, W, 3] uint8.
      gt_boxes: [G, 4] float32.
      gt_classes: [G] int32.
      proposals: [R, 4] float32.
      seed: [2] int32, of the example.
      settings: how.

    Returns:
      The same four of the window: boxes of which less than half lies in it are gone.
    """
    before = (image, gt_boxes, gt_classes, proposals)

    def cut() -> tuple[tf.Tensor, ...]:
        shape = tf.shape(image)
        window = crop_window(shape[0], shape[1], gt_boxes, seed, settings.crop_min_side)
        top, left, bottom, right = tf.unstack(window)
        moved, kept = into_window(gt_boxes, window)
        found, inside = into_window(proposals, window)
        return (
            image[top:bottom, left:right],
            tf.boolean_mask(moved, kept),
            tf.boolean_mask(gt_classes, kept),
            tf.boolean_mask(found, inside),
        )

    chosen = tf.random.stateless_uniform([], _fold(seed, _WHETHER)) < settings.crop
    return tf.cond(chosen, cut, lambda: before)


def colour(image: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Changes brightness, contrast, saturation and hue.

    Args:
      image: [H, W, 3] float32 RGB in 0..255.
      seed: [2] int32, of the example.
      strength: s in [0, 1); the first three are multiplied by up to 1 - s to 1 + s, and hue moves
        by up to a tenth of s of its circle.

    Returns:
      [H, W, 3] float32 in 0..255.
    """
    random = tf.random.stateless_uniform([4], _fold(seed, _COLOUR), -strength, strength)
    image = tf.image.adjust_contrast(image * (1.0 + random[0]), 1.0 + random[1])
    image = tf.clip_by_value(image / 255.0, 0.0, 1.0)
    image = tf.image.adjust_hue(
        tf.image.adjust_saturation(image, 1.0 + random[2]), _HUE * random[3]
    )
    return 255.0 * tf.clip_by_value(image, 0.0, 1.0)


def cutout(image: tf.Tensor, seed: tf.Tensor, share: float) -> tf.Tensor:
    """Paints one square in the image's mean colour (DeVries and Taylor, 2017).

    Args:
      image: [H, W, 3] float32.
      seed: [2] int32, of the example.
      share: of the shortest side, the side of the square. Its centre lies anywhere in the image, so
        that a part of it may lie outside.
    """
    shape = tf.shape(image)[:2]
    size = tf.cast(shape, tf.float32)
    centre = tf.random.stateless_uniform([2], _fold(seed, _CUTOUT)) * size
    half = 0.5 * share * tf.reduce_min(size)
    rows, columns = (
        tf.abs(tf.range(shape[i], dtype=tf.float32) + 0.5 - centre[i]) < half for i in range(2)
    )
    hidden = tf.logical_and(rows[:, None], columns[None, :])[..., None]
    return tf.where(hidden, tf.reduce_mean(image, axis=(0, 1)), image)


def _fold(seed: tf.Tensor, purpose: int) -> tf.Tensor:
    return tf.random.fold_in(seed, purpose)
