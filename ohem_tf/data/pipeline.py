"""Records to batches. Which example comes at which step is a pure function of (seed, step)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ohem_tf import boxes as box_ops
from ohem_tf import images
from ohem_tf.arrays import Array
from ohem_tf.data import augmentation
from ohem_tf.data.reader import RecordReader
from ohem_tf.data.records import parse_example
from ohem_tf.settings import AugmentSettings


class Choice(NamedTuple):
    """What the stream holds at one position.

    Attributes:
      record: index of the record.
      flipped: whether the image is flipped left-right.
      shortest_side: to resize to, in pixels.
    """

    record: int
    flipped: bool
    shortest_side: int


@dataclasses.dataclass(frozen=True)
class TrainingStream:
    """The endless sequence of training examples, as a function of the position in it.

    Position p = step * N + i is image i of the batch of N images at `step`. Every epoch is a fresh
    permutation of the records, so training can be resumed, or replayed, anywhere at no cost.

    Attributes:
      records: the training split.
      images_per_step: N over all replicas.
      seed: of the permutations, flips and scales.
      shortest_sides: lengths of the shortest side in pixels; several: one at random per image.
      longest_side: cap on the longest side in pixels.
      flip: "double": an epoch holds each image and its flipped copy, as in the release; "random":
        each image is flipped with probability 0.5; "none".
      max_proposals, crowd_ioa: see `training_proposals`.
      augment: further random changes.
    """

    records: RecordReader
    images_per_step: int
    seed: int
    shortest_sides: Sequence[int] = (600,)
    longest_side: int = 1000
    flip: str = "double"
    max_proposals: int = 0
    crowd_ioa: float = 0.7
    augment: AugmentSettings = AugmentSettings()

    def choice(self, position: int) -> Choice:
        """What stands at `position`."""
        copies = 2 if self.flip == "double" else 1
        epoch, place = divmod(position, copies * len(self.records))
        entry = int(_permutation(self.seed, epoch, copies * len(self.records))[place])
        random = np.random.default_rng([self.seed, 1, position])
        flipped = bool(random.integers(2)) if self.flip == "random" else entry >= len(self.records)
        side = self.shortest_sides[int(random.integers(len(self.shortest_sides)))]
        return Choice(entry % len(self.records), flipped, int(side))

    def image_ids(self, step: int) -> list[str]:
        """Ids of the images in the batch at `step`."""
        positions = range(step * self.images_per_step, (step + 1) * self.images_per_step)
        return [self.records.record(self.choice(p).record).image_id for p in positions]

    def check(self, step: int, steps: int = 2) -> None:
        """Raises InputError for the first damaged record of the batches from `step` on."""
        for position in range(step * self.images_per_step, (step + steps) * self.images_per_step):
            self.records.check(self.choice(position).record)

    def dataset(
        self, first_step: int = 0, worker: int = 0, workers: int = 1, replicas: int = 1
    ) -> tf.data.Dataset:
        """Batches from `first_step` on, without end.

        The images of a step are dealt out in order: the first N / workers to worker 0, and of those
        the first N / workers / replicas to its first replica.

        Args:
          first_step: the step of the first batch.
          worker, workers: which of how many processes takes these batches.
          replicas: of this worker; each step has a batch for each.

        Returns:
          A data set of dicts; symbols N images (of one replica), H x W the largest height and width
          of the batch, R and G the largest number of proposals and of ground truth boxes:
            image [N, H, W, 3] float32 RGB in 0..255, resized, zeros at the bottom and right
            size [N, 2] int32 height and width of each resized image without the padding
            scale [N] float32 factor from original to resized pixels
            proposals [N, R, 4], gt_boxes [N, G, 4] float32 pixels of the *original* (cut,
              flipped) image; the step scales them for RoI pooling only
            gt_classes [N, G] int32; difficult and crowd objects are left out
            proposals_mask [N, R], gt_mask [N, G] bool: False where padded
            position [N] int64 position in the stream
        """

        def read(position: np.int64) -> tuple[bytes, np.bool_, np.int32]:
            index, flipped, side = self.choice(int(position))
            return self.records[index], np.bool_(flipped), np.int32(side)

        def load(position: tf.Tensor) -> dict[str, tf.Tensor]:
            serialized, flipped, side = tf.numpy_function(
                read, [position], [tf.string, tf.bool, tf.int32], stateful=False
            )
            serialized, flipped, side = (
                tf.ensure_shape(x, []) for x in (serialized, flipped, side)
            )
            example = self._example(parse_example(serialized), flipped, side, position)
            return {**example, "position": position}

        per_replica = self.images_per_step // (workers * replicas)
        mine = per_replica * replicas

        def position(index: tf.Tensor) -> tf.Tensor:
            return index // mine * self.images_per_step + worker * mine + index % mine

        dataset = tf.data.Dataset.range(first_step * mine, np.iinfo(np.int64).max)
        dataset = dataset.map(
            lambda index: load(position(index)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        dataset = dataset.padded_batch(per_replica, drop_remainder=True)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def _example(
        self,
        record: dict[str, tf.Tensor],
        flipped: tf.Tensor,
        side: tf.Tensor,
        position: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        counted = tf.logical_not(tf.logical_or(record["difficult"], record["crowd"]))
        gt_boxes = tf.boolean_mask(record["boxes"], counted)
        gt_classes = tf.boolean_mask(record["classes"], counted)
        proposals = training_proposals(
            record["proposals"],
            record["boxes"],
            record["crowd"],
            self.max_proposals,
            self.crowd_ioa,
        )
        image, augment = images.decode(record["encoded"]), self.augment
        seed = tf.stack([self.seed, tf.cast(position, tf.int32)])
        if augment.crop:
            image, gt_boxes, gt_classes, proposals = augmentation.crop(
                image, gt_boxes, gt_classes, proposals, seed, augment
            )
        width = tf.shape(image)[1]
        if augment.scale:
            side = tf.cast(side, tf.float32) * augmentation.scale_factor(seed, augment.scale)
        image, scale = images.resize(image, side, self.longest_side)
        image = tf.cond(flipped, lambda: image[:, ::-1], lambda: image)
        if augment.colour:
            image = augmentation.colour(image, seed, augment.colour)
        if augment.cutout:
            image = augmentation.cutout(image, seed, augment.cutout)

        def orient(boxes: tf.Tensor) -> tf.Tensor:
            return tf.where(flipped, box_ops.flip(boxes, width), boxes)

        return {
            "image": image,
            "size": tf.shape(image)[:2],
            "scale": scale,
            "proposals": orient(proposals),
            "proposals_mask": tf.ones(tf.shape(proposals)[:1], tf.bool),
            "gt_boxes": orient(gt_boxes),
            "gt_classes": gt_classes,
            "gt_mask": tf.ones(tf.shape(gt_boxes)[:1], tf.bool),
        }


def training_proposals(
    proposals: Array, boxes: Array, crowd: Array, max_proposals: int, crowd_ioa: float
) -> tf.Tensor:
    """The proposals of one image that training sees.

    The first `max_proposals`, and of those not the ones that a crowd region covers: objects in it
    have no boxes of their own, so such a proposal is neither foreground nor background. In this
    order, as in the release.

    Args:
      proposals: [R, 4] float32.
      boxes: [G, 4] float32 all ground truth boxes.
      crowd: [G] bool, which of them are crowd regions (COCO).
      max_proposals: keep at most this many, the first ones; 0: all.
      crowd_ioa: leave out a proposal if a crowd region covers more than this share of its area;
        1 leaves out none.

    Returns:
      [R', 4] float32 in the order given.
    """
    first = box_ops.first(proposals, max_proposals)
    regions = tf.boolean_mask(tf.cast(boxes, tf.float32), crowd)
    covered = tf.reduce_any(box_ops.ioa(first, regions) > crowd_ioa, axis=1)
    return tf.boolean_mask(first, tf.logical_not(covered))


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


def evaluation_examples(records: RecordReader) -> Iterator[dict[str, np.ndarray]]:
    """All records of a split in order, decoded.

    Yields:
      Dicts of numpy arrays: "image" [H, W, 3] uint8, and all of `records.parse_example` but
      "encoded".

    Raises:
      InputError: a damaged record; names shard and record.
    """

    def load(index: tf.Tensor) -> dict[str, tf.Tensor]:
        serialized = tf.numpy_function(lambda i: records[int(i)], [index], tf.string)
        record = parse_example(tf.ensure_shape(serialized, []))
        return {"image": images.decode(record.pop("encoded")), **record}

    dataset = tf.data.Dataset.range(len(records))
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    examples = dataset.prefetch(2).as_numpy_iterator()
    for index in range(len(records)):
        try:
            example = next(examples)
        except tf.errors.OpError:
            records.check(index)
            raise
        yield example
