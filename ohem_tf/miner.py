"""Online hard example mining for any detector: its boxes and losses in, the hard examples out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from ohem_tf.arrays import Array
from ohem_tf.errors import InputError
from ohem_tf.hard_mining import select_hard_rois


class _Examples(NamedTuple):
    """Of one image or of a batch; `boxes` may be shared by the images of a batch."""

    losses: tf.Tensor
    boxes: tf.Tensor | None
    labels: tf.Tensor | None
    valid: tf.Tensor | None


@dataclasses.dataclass(frozen=True)
class OnlineHardExampleMiner:
    """Says which examples of an image are hard: those that the update of the weights counts.

    The selection of OHEM (paper, section 4.1), `hard_mining.select_hard_rois`, for a detector that
    is not of this package. An example is a RoI or an anchor: a box and a loss; R of them in an
    image, N images in a batch, each mined apart. There is no state, and no gradient flows through
    the selection. In the `train_step` or `compute_loss` of any Keras model, in a graph or not, and
    in each replica of a strategy:

    >>> miner = OnlineHardExampleMiner(max_selected=2)
    >>> boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 0, 0]]
    >>> valid = [True, True, True, False]  # the last is padding
    >>> logits = tf.Variable([[4.0, 0.0], [3.0, 0.0], [2.0, 0.0], [9.0, 0.0]])
    >>> with tf.GradientTape() as tape:
    ...     losses = tf.nn.sparse_softmax_cross_entropy_with_logits([1, 1, 1, 1], logits)
    ...     hard = miner.mask(boxes, losses, valid=valid)
    ...     loss = tf.reduce_mean(losses[hard])
    >>> hard.numpy().tolist()  # the second would count the first once more
    [True, False, True, False]
    >>> gradient = tape.gradient(loss, logits)

    A mask leaves a forward and backward pass over all examples. Where the head runs per RoI, the
    paper's two passes cost less: all RoIs outside the tape, then those at `padded_indices` inside
    it; see examples/fast_rcnn.py.

    XLA compiles it (`jit_compile`, which Keras turns on by itself on a GPU), where R is known; but
    `losses[hard]` is slow there: sum `tf.where(hard, losses, 0.0)` instead.

    Attributes:
      max_selected: at most this many examples of an image; 64 in the paper.
      iou_threshold: an example is dropped if its IoU with a harder one that is kept is greater.
        None: no NMS, simply the highest losses.
    """

    max_selected: int
    iou_threshold: float | None = 0.7

    def __post_init__(self) -> None:
        """Checks the fields.

        Raises:
          InputError: one that cannot work.
        """
        count, iou = self.max_selected, self.iou_threshold
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InputError(f"max_selected is {count!r}; expected an integer of 1 or more")
        if iou is not None and not (isinstance(iou, int | float) and 0 <= iou <= 1):
            raise InputError(f"iou_threshold is {iou!r}; expected 0 to 1, or None for no NMS")

    def indices(
        self,
        boxes: Array | None,
        losses: Array,
        labels: Array | None = None,
        valid: Array | None = None,
    ) -> tf.Tensor:
        """The hard examples of one image.

        Args:
          boxes: [R, 4] corners (ymin, xmin, ymax, xmax or with x first), in any unit. Without NMS
            they may be None.
          losses: [R] float of any precision. NaN, an overflow of float16, is the hardest.
          labels: None for one NMS over all examples, as the paper describes; [R] integers for one
            NMS per label, as the authors' release does.
          valid: None, or [R] bool: which examples may be selected; not padding, not ignored ones.

        Returns:
          [K] int32 indices, K <= max_selected, sorted by descending loss.

        Raises:
          InputError: an argument of another shape or dtype.
        """
        return self._select(self._checked(boxes, losses, labels, valid, ranks=(1,)))

    def padded_indices(
        self,
        boxes: Array | None,
        losses: Array,
        labels: Array | None = None,
        valid: Array | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The hard examples of each image of a batch, for `tf.gather(..., batch_dims=1)`.

        Args:
          boxes, losses, labels, valid: see `indices`; here with N images in front. Anchors that the
            images share may be [R, 4].

        Returns:
          [N, K] int32 indices, K = min(max_selected, R), in each row sorted by descending loss;
          [N, K] bool, False where an image gave fewer: at the end of its row, with index 0.

        Raises:
          InputError: an argument of another shape or dtype.
        """
        batch = self._checked(boxes, losses, labels, valid, ranks=(2,))
        width = tf.minimum(self.max_selected, tf.shape(batch.losses)[1])
        count = batch.losses.shape[1]
        shape = [None if count is None else min(self.max_selected, count)]

        def pad(found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            places = tf.range(tf.size(found))
            return tf.scatter_nd(places[:, None], found, [width]), tf.range(width) < tf.size(found)

        signature = tf.TensorSpec(shape, tf.int32), tf.TensorSpec(shape, tf.bool)
        return self._of_each_image(batch, pad, signature)

    def mask(
        self,
        boxes: Array | None,
        losses: Array,
        labels: Array | None = None,
        valid: Array | None = None,
    ) -> tf.Tensor:
        """Which examples are hard, of one image or of each image of a batch.

        Args:
          boxes, losses, labels, valid: see `indices` (R examples) or `padded_indices` (N x R).

        Returns:
          [R] or [N, R] bool, as `losses`.

        Raises:
          InputError: an argument of another shape or dtype.
        """
        examples = self._checked(boxes, losses, labels, valid, ranks=(1, 2))
        count = tf.shape(examples.losses)[-1]

        def mark(found: tf.Tensor) -> tf.Tensor:
            # Floats, since a GPU has no scatter of bools.
            return tf.scatter_nd(found[:, None], tf.ones_like(found, tf.float32), [count]) > 0

        if examples.losses.shape.rank == 1:
            return mark(self._select(examples))
        signature = tf.TensorSpec(examples.losses.shape[1:], tf.bool)
        return self._of_each_image(examples, mark, signature)

    def _select(self, image: _Examples) -> tf.Tensor:
        """[K] int32 hard examples of one image."""
        return select_hard_rois(
            image.boxes,
            image.losses,
            self.max_selected,
            self.iou_threshold,
            image.labels,
            image.valid,
        )

    def _of_each_image(
        self, batch: _Examples, function: Callable[[tf.Tensor], Any], signature: Any
    ) -> Any:
        """`function` of the hard examples of each image, stacked."""
        own = {name: x for name, x in batch._asdict().items() if x is not None}
        if batch.boxes is not None and batch.boxes.shape.rank == 2:
            del own["boxes"]
        return tf.map_fn(
            lambda image: function(self._select(batch._replace(**image))),
            own,
            fn_output_signature=signature,
        )

    def _checked(
        self,
        boxes: Array | None,
        losses: Array,
        labels: Array | None,
        valid: Array | None,
        ranks: tuple[int, ...],
    ) -> _Examples:
        """The arguments as tensors, checked as far as shapes are known when a graph is made."""
        given = losses, boxes, labels, valid
        examples = _Examples(*(None if x is None else tf.convert_to_tensor(x) for x in given))
        losses, boxes, labels, valid = examples
        shape = losses.shape
        expected = " or ".join(("[R]", "[N, R]")[rank - 1] for rank in ranks)
        if shape.rank not in ranks or not losses.dtype.is_floating:
            raise InputError(f"losses: {_kind(losses)}; expected {expected} floats")
        if boxes is None and self.iou_threshold is not None:
            raise InputError("boxes: missing; only a miner with iou_threshold=None needs none")
        of_images, shared = shape.concatenate(4), shape[-1:].concatenate(4)
        if boxes is not None and not any(
            boxes.shape.rank == s.rank and s.is_compatible_with(boxes.shape)
            for s in (of_images, shared)
        ):
            raise InputError(f"boxes: {_kind(boxes)}; expected {of_images} or {shared}")
        if labels is not None and self.iou_threshold is None:
            raise InputError("labels: have no effect with iou_threshold=None; leave them out")
        for name, x, kind in (("labels", labels, "integers"), ("valid", valid, "bool")):
            if x is not None and not (
                shape.is_compatible_with(x.shape)
                and (x.dtype.is_integer if kind == "integers" else x.dtype.is_bool)
            ):
                raise InputError(f"{name}: {_kind(x)}; expected {shape} {kind}")
        return examples._replace(losses=tf.stop_gradient(losses))


def _kind(x: tf.Tensor) -> str:
    return f"{x.shape} {x.dtype.name}"
