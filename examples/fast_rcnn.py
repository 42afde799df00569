"""Fast R-CNN with online hard example mining in plain Keras, from scratch, in 150 lines.

Of this package only `OnlineHardExampleMiner` is used; the rest is what a detector of your own has
already. The records are those of ohem_tf.prepare. After `make quickstart`, a minute on two cores:

    python -m examples.fast_rcnn --records=runs/quickstart/records

It prints the loss of the hard RoIs, which is minimised, and that of all RoIs.
"""

import json
import pathlib

import keras
import tensorflow as tf
from absl import app, flags

from ohem_tf import OnlineHardExampleMiner

POOL = 5  # cells of a RoI in each direction
SIDES = ("ymin", "xmin", "ymax", "xmax")


def read(records: pathlib.Path, num_images: int) -> tf.data.Dataset:
    """Endless batches: image [N, H, W, 3], gt [N, G, 4], classes [N, G], rois [N, R, 4] in pixels.

    Padding has class 0, and boxes without area.
    """
    numbers = {"image/object/class/label": tf.int64}
    for group in ("image/object/bbox_pixels", "image/proposal/bbox"):
        numbers |= {f"{group}/{side}": tf.float32 for side in SIDES}
    spec = {k: tf.io.FixedLenSequenceFeature([], v, allow_missing=True) for k, v in numbers.items()}
    spec["image/encoded"] = tf.io.FixedLenFeature([], tf.string)

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        found = tf.io.parse_single_example(serialized, spec)
        image = tf.io.decode_image(found["image/encoded"], channels=3, expand_animations=False)
        gt, proposals = (
            tf.stack([found[f"{group}/{side}"] for side in SIDES], axis=-1)
            for group in ("image/object/bbox_pixels", "image/proposal/bbox")
        )
        return {
            "image": tf.ensure_shape(image, [None, None, 3]),
            "gt": gt,
            "classes": tf.cast(found["image/object/class/label"], tf.int32),
            "rois": tf.concat([gt, proposals], axis=0),
        }

    files = sorted(map(str, records.glob("train-*.tfrecord")))
    dataset = tf.data.TFRecordDataset(files).shuffle(1000, seed=0).repeat()
    return dataset.map(parse, tf.data.AUTOTUNE).padded_batch(num_images).prefetch(2)


def pairwise_iou(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """[N, R, 4] and [N, G, 4] to [N, R, G]."""
    a, b = a[:, :, None], b[:, None]
    shared = tf.minimum(a[..., 2:], b[..., 2:]) - tf.maximum(a[..., :2], b[..., :2])
    shared = tf.reduce_prod(tf.maximum(shared, 0), axis=-1)
    areas = [tf.reduce_prod(x[..., 2:] - x[..., :2], axis=-1) for x in (a, b)]
    return tf.math.divide_no_nan(shared, areas[0] + areas[1] - shared)


def match(rois: tf.Tensor, gt: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Labels [N, R], 0 for background (IoU < 0.5), and regression targets [N, R, 4]."""
    gt, classes = tf.pad(gt, [[0, 0], [0, 1], [0, 0]]), tf.pad(classes, [[0, 0], [0, 1]])
    iou = pairwise_iou(rois, gt)
    nearest = tf.argmax(iou, axis=-1)
    target, label = (tf.gather(x, nearest, batch_dims=1) for x in (gt, classes))
    size, wanted = (tf.maximum(x[..., 2:] - x[..., :2], 1) for x in (rois, target))
    shift = (target[..., :2] + target[..., 2:] - rois[..., :2] - rois[..., 2:]) / 2 / size
    targets = tf.concat([shift, tf.math.log(wanted / size)], axis=-1) / [0.1, 0.1, 0.2, 0.2]
    return tf.where(tf.reduce_max(iou, axis=-1) >= 0.5, label, 0), targets


class FastRCNN(keras.Model):
    """A small convolutional network, RoI pooling, and a head of two layers."""

    def __init__(self, num_classes: int, miner: OnlineHardExampleMiner) -> None:
        super().__init__()
        self.miner = miner
        self.means = [keras.metrics.Mean(name) for name in ("loss", "loss_all")]
        self.backbone = keras.Sequential(name="backbone")
        for filters in (24, 48, 96, 128):
            self.backbone.add(keras.layers.Conv2D(filters, 3, strides=2, padding="same"))
            self.backbone.add(keras.layers.GroupNormalization(8))
            self.backbone.add(keras.layers.ReLU())
        self.fc = keras.layers.Dense(256, activation="relu")
        self.scores = keras.layers.Dense(num_classes + 1)  # 0 is background
        self.deltas = keras.layers.Dense(4)

    def roi_losses(self, features, size, rois, labels, targets) -> tf.Tensor:
        """Cross-entropy plus smooth L1 on the boxes of foreground, of each RoI: [N, R]."""
        n, r = tf.shape(rois)[0], tf.shape(rois)[1]
        boxes = tf.reshape(rois / tf.tile(size, [2]), [-1, 4])
        pooled = tf.image.crop_and_resize(features, boxes, tf.repeat(tf.range(n), r), [POOL, POOL])
        hidden = self.fc(tf.reshape(pooled, [n, r, POOL * POOL * features.shape[-1]]))
        cls = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, self.scores(hidden))
        box = tf.abs(self.deltas(hidden) - targets)
        box = tf.reduce_sum(tf.where(box < 1, 0.5 * box**2, box - 0.5), axis=-1)
        return cls + tf.where(labels > 0, box, 0)

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """OHEM: all RoIs forward only, then the hard ones forward and backward."""
        rois, size = batch["rois"], tf.cast(tf.shape(batch["image"])[1:3], tf.float32)
        real = tf.reduce_all(rois[..., 2:] > rois[..., :2], axis=-1)  # not padding
        labels, targets = match(rois, batch["gt"], batch["classes"])
        with tf.GradientTape() as tape:
            features = self.backbone(tf.cast(batch["image"], tf.float32) / 127.5 - 1)
            with tape.stop_recording():
                every = self.roi_losses(features, size, rois, labels, targets)
                hard, filled = self.miner.padded_indices(rois, every, valid=real)
            selected = (tf.gather(x, hard, batch_dims=1) for x in (rois, labels, targets))
            losses = self.roi_losses(features, size, *selected)[filled]
            loss = tf.reduce_mean(losses)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        for mean, value in zip(self.means, (loss, tf.reduce_mean(every[real])), strict=True):
            mean.update_state(value)
        return {mean.name: mean.result() for mean in self.means}


def main(_) -> None:
    """Trains, with a line of losses after each epoch."""
    given = flags.FLAGS
    info = pathlib.Path(given.records, "dataset.json")
    if not info.is_file():
        raise SystemExit(f"error: --records: {info} is missing; give a folder of ohem_tf.prepare")
    keras.utils.set_random_seed(0)
    dataset = read(info.parent, given.images_per_step)
    num_classes = len(json.loads(info.read_text())["classes"])
    model = FastRCNN(num_classes, OnlineHardExampleMiner(given.rois_per_image))
    # No XLA: each batch has another number of RoIs.
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
    model.fit(dataset, epochs=given.epochs, steps_per_epoch=given.steps, verbose=2, shuffle=False)


def cli() -> None:
    """Console script."""
    flags.DEFINE_string("records", "runs/quickstart/records", "Folder of ohem_tf.prepare.")
    flags.DEFINE_integer("images_per_step", 2, "N.", lower_bound=1)
    flags.DEFINE_integer("rois_per_image", 64, "Hard RoIs of an image.", lower_bound=1)
    flags.DEFINE_integer("epochs", 10, "A line of losses after each.", lower_bound=1)
    flags.DEFINE_integer("steps", 20, "Weight updates in an epoch.", lower_bound=1)
    app.run(main)


if __name__ == "__main__":
    cli()
