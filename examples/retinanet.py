"""KerasHub's RetinaNet trained on hard anchors, in place of the focal loss.

Both answer the same question, what to do with 100 000 easy anchors beside a few objects: the focal
loss weighs them down, hard mining leaves them out. Here each anchor has a plain cross-entropy (and
a smooth L1 on its box, if it is foreground), and the update counts the anchors with the highest
losses, overlapping ones once. Lin et al. (2017, table 2d) found the focal loss ahead on COCO.

Records are those of ohem_tf.prepare; proposals in them are not used. After `make quickstart`, a
minute or so on two cores:

    python -m examples.retinanet --records=runs/quickstart/records

or, with the extra [hub], any KerasHub backbone with a pyramid: --preset=resnet_50_imagenet.
"""

from typing import Any

import keras
import keras_hub
import tensorflow as tf
from absl import flags

import ohem_tf
from ohem_tf.errors import run

LEVELS = (4, 6)  # P4 to P6: objects of 40 pixels and more
SIDE = 256  # of the square canvas that holds an image


class HardAnchorRetinaNet(keras_hub.models.RetinaNetObjectDetector):
    """RetinaNet whose loss is that of the hard anchors."""

    miner = ohem_tf.OnlineHardExampleMiner(max_selected=128)

    def anchor_losses(
        self, x: tf.Tensor, y: dict[str, tf.Tensor], y_pred: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Loss [N, A] of each anchor, and its label [N, A]: -1 background, -2 neither of both."""
        targets, labels = self.label_encoder(x, y["boxes"], y["labels"])
        of_class = tf.one_hot(tf.cast(labels, tf.int32), self.num_classes)  # of -1: zeros
        cls = tf.nn.sigmoid_cross_entropy_with_logits(of_class, y_pred["cls_logits"])
        error = tf.abs(y_pred["bbox_regression"] - targets)
        box = tf.where(error < 1, 0.5 * error**2, error - 0.5)
        box = tf.where(labels >= 0, tf.reduce_sum(box, axis=-1), 0.0)
        return tf.reduce_sum(cls, axis=-1) + box, labels

    def compute_loss(
        self,
        x: tf.Tensor,
        y: dict[str, tf.Tensor],
        y_pred: dict[str, tf.Tensor],
        sample_weight: None = None,
        **kwargs: Any,
    ) -> tf.Tensor:
        """The mean loss of the hard anchors of the batch."""
        losses, labels = self.anchor_losses(x, y, y_pred)
        anchors = tf.concat(list(self.anchor_generator(x).values()), axis=0)  # [A, 4], shared
        hard = self.miner.mask(anchors, losses, valid=labels != -2)
        count = tf.reduce_sum(tf.cast(hard, tf.float32))
        return tf.math.divide_no_nan(tf.reduce_sum(tf.where(hard, losses, 0.0)), count)


def build(num_classes: int, preset: str = "") -> HardAnchorRetinaNet:
    """The detector, on a KerasHub backbone, or on a small ResNet without pretrained weights."""
    if preset:
        encoder = keras_hub.models.Backbone.from_preset(preset)
    else:
        encoder = keras_hub.models.ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[5],
            stackwise_num_filters=[64, 64, 96, 128],
            stackwise_num_blocks=[1, 1, 1, 1],
            stackwise_num_strides=[1, 2, 2, 2],
            block_type="basic_block",
        )
    shape = (SIDE, SIDE, 3)  # KerasHub makes its anchors for a size that is known
    model = HardAnchorRetinaNet(
        keras_hub.models.RetinaNetBackbone(encoder, *LEVELS, use_p5=False, image_shape=shape),
        num_classes,
        anchor_generator=keras_hub.layers.AnchorGenerator(
            "yxyx", *LEVELS, num_scales=3, aspect_ratios=[0.5, 1.0, 2.0], anchor_size=3
        ),
        pre_logits_num_conv_layers=1,
    )
    # KerasHub 0.32 starts the boxes, not the classes, with the bias of rare foreground.
    bias = model.box_head.prediction_layer.bias
    bias.assign(tf.zeros_like(bias))
    return model


def examples(records: ohem_tf.RecordReader, num_images: int) -> tf.data.Dataset:
    """Endless batches of images [N, SIDE, SIDE, 3] in 0..1 with boxes in their pixels."""
    sides = {"shortest_sides": (SIDE * 3 // 4,), "longest_side": SIDE}

    def convert(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        image = tf.image.pad_to_bounding_box(batch["image"] / 255, 0, 0, SIDE, SIDE)
        boxes = tf.where(
            batch["gt_mask"][..., None], batch["gt_boxes"] * batch["scale"][:, None, None], -1
        )
        classes = tf.where(batch["gt_mask"], batch["gt_classes"] - 1, -1)
        # One more that is no object: KerasHub matches anchors to at least one.
        boxes = tf.pad(boxes, [[0, 0], [0, 1], [0, 0]], constant_values=-1)
        classes = tf.pad(classes, [[0, 0], [0, 1]], constant_values=-1)
        return image, {"boxes": boxes, "labels": tf.cast(classes, tf.float32)}

    return ohem_tf.TrainingStream(records, num_images, seed=0, **sides).dataset().map(convert)


def main(_: list[str]) -> None:
    """Trains, with a line of losses after each epoch."""
    given = flags.FLAGS
    records = ohem_tf.RecordReader(given.records, "train")
    keras.utils.set_random_seed(0)
    model = build(len(records.classes), given.preset)
    model.compile(keras.optimizers.Adam(given.learning_rate))
    model.fit(
        examples(records, given.images_per_step),
        epochs=given.epochs,
        steps_per_epoch=given.steps,
        verbose=2,
        shuffle=False,
    )


def cli() -> None:
    """Defines the flags and runs."""
    flags.DEFINE_string("records", "runs/quickstart/records", "Folder of ohem_tf.prepare.")
    flags.DEFINE_string("preset", "", "KerasHub backbone, a name or a folder; empty: a small one.")
    flags.DEFINE_integer("images_per_step", 4, "N.", lower_bound=1)
    flags.DEFINE_integer("epochs", 6, "A line of losses after each.", lower_bound=1)
    flags.DEFINE_integer("steps", 15, "Weight updates in an epoch.", lower_bound=1)
    flags.DEFINE_float("learning_rate", 3e-4, "Of Adam.", lower_bound=0.0)
    run(main)


if __name__ == "__main__":
    cli()
