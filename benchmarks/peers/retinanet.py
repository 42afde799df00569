r"""What a Keras user would pick instead: KerasHub's RetinaNet, as many minutes on the same images.

    python -m benchmarks.peers.retinanet --config=configs/voc07_320_fpn.py --minutes=60 \
        --config.data.dir=records/voc07_320_images --config.backbone.name=WEIGHTS \
        --workdir=runs/retinanet

As KerasHub makes it, focal loss and all, on the backbone of the config, which is trained whole, its
batch normalisation frozen; data, image size, flips and images a step are the config's too. Adam
with a warm-up and a cosine to 0 over what --minutes allow; the speed is found in the first steps.
It is scored by this project's evaluation; writes WORKDIR/metrics.json.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import keras_hub
import numpy as np
import tensorflow as tf
from absl import flags
from ml_collections import ConfigDict, config_flags

from ohem_tf import experiment, images
from ohem_tf.allocator import keep_freed_memory
from ohem_tf.config import validate
from ohem_tf.data.ground_truth import ground_truth
from ohem_tf.data.joined import open_split
from ohem_tf.data.pipeline import evaluation_examples
from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError, run
from ohem_tf.evaluation.report import metrics
from ohem_tf.files import make_folder, write_json
from ohem_tf.models.backbones import PREPROCESSING
from ohem_tf.progress import tqdm

_LEVELS = (3, 6)  # anchors of 32 to 400 px
_TIMED = 20  # steps that tell the speed, after as many that trace and warm up


def build(config: ConfigDict, num_classes: int, side: int) -> keras.Model:
    """The detector, for square images of `side` pixels.

    In KerasHub 0.32 the bias that makes foreground rare at first is that of the boxes; here it is
    that of the classes, as in the paper of the RetinaNet, without which it hardly learns.
    """
    encoder = keras_hub.models.Backbone.from_preset(os.path.expanduser(config.backbone.name))
    for layer in encoder._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    backbone = keras_hub.models.RetinaNetBackbone(
        encoder, *_LEVELS, use_p5=False, image_shape=(side, side, 3)
    )
    model = keras_hub.models.RetinaNetObjectDetector(
        backbone,
        num_classes,
        prediction_decoder=keras_hub.layers.NonMaxSuppression(
            "yxyx", from_logits=True, iou_threshold=0.5, confidence_threshold=0.01
        ),
    )
    for head, bias in ((model.box_head, 0.0), (model.classification_head, -math.log(99))):
        layer = head.prediction_layer
        layer.bias.assign(tf.fill(layer.bias.shape, bias))
    return model


def batches(config: ConfigDict, records: RecordReader, side: int) -> tf.data.Dataset:
    """Endless batches for a `RetinaNetObjectDetector`: images, and boxes in their pixels."""
    normalised = _normalisation(config)

    def convert(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        real = batch["gt_mask"]
        boxes = batch["gt_boxes"] * batch["scale"][:, None, None]
        boxes = tf.where(real[..., None], boxes, -1.0)
        classes = tf.where(real, batch["gt_classes"] - 1, -1)
        # One more that is no object: KerasHub matches anchors to at least one.
        boxes = tf.pad(boxes, [[0, 0], [0, 1], [0, 0]], constant_values=-1)
        labels = tf.cast(tf.pad(classes, [[0, 0], [0, 1]], constant_values=-1), tf.float32)
        image = tf.image.pad_to_bounding_box(normalised(batch["image"]), 0, 0, side, side)
        return image, {"boxes": boxes, "labels": labels}

    return experiment.training_stream(config, records).dataset().map(convert).prefetch(2)


def _normalisation(config: ConfigDict) -> Callable[[tf.Tensor], tf.Tensor]:
    _, mean, std = PREPROCESSING[config.backbone.preprocessing]
    return lambda image: (image - tf.constant(mean)) / tf.constant(std)


class _Clock(keras.callbacks.Callback):
    """Times the epochs, and ends the training after some seconds."""

    def __init__(self, limit: float = math.inf) -> None:
        super().__init__()
        self._limit = limit
        self.ends = [time.perf_counter()]
        self.steps = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps += 1
        if time.perf_counter() - self.ends[0] > self._limit:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.ends.append(time.perf_counter())


def fit(model: keras.Model, examples: tf.data.Dataset, minutes: float, rate: float) -> int:
    """Trains for `minutes`, and before that for some steps that tell its speed.

    Returns:
      The number of steps.
    """

    def train(rate: Any, steps: int, epochs: int, clock: _Clock, verbose: int) -> None:
        model.compile(keras.optimizers.Adam(rate, global_clipnorm=10.0))
        model.fit(
            examples,
            epochs=epochs,
            steps_per_epoch=steps,
            callbacks=[clock],
            verbose=verbose,
            shuffle=False,
        )

    trial = _Clock()
    train(rate / 10, _TIMED, 2, trial, verbose=0)
    count = max(int(60 * minutes / (trial.ends[2] - trial.ends[1]) * _TIMED), 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        rate / 10, count, warmup_target=rate, warmup_steps=min(200, count // 10)
    )
    clock = _Clock(60 * minutes)
    train(schedule, count, 1, clock, verbose=1)
    return trial.steps + clock.steps


def detections(
    model: keras.Model, config: ConfigDict, records: RecordReader, side: int
) -> list[dict[str, np.ndarray]]:
    """Detections in every image of a split, as `evaluation.report.metrics` takes them."""
    normalised = _normalisation(config)
    (shortest,) = config.detection.shortest_sides

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    def detect(image: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        resized, scale = images.resize(image, shortest, config.detection.longest_side)
        padded = tf.image.pad_to_bounding_box(normalised(resized), 0, 0, side, side)[None]
        return model.decode_predictions(model(padded, training=False), padded), scale

    found = []
    for example in tqdm(evaluation_examples(records), total=len(records), desc="evaluating"):
        outputs, scale = detect(example["image"])
        real = outputs["labels"][0].numpy() >= 0
        boxes = (outputs["boxes"][0] / scale).numpy()[real]
        limits = np.array(example["image"].shape[:2] * 2, np.float32)
        found.append(
            {
                "image_id": example["image_id"].decode(),
                "boxes": np.clip(boxes, 0, limits),
                "scores": outputs["confidence"][0].numpy()[real],
                "classes": outputs["labels"][0].numpy()[real].astype(np.int32) + 1,
            }
        )
    return found


def train_and_score(config: ConfigDict, minutes: float, learning_rate: float) -> dict[str, Any]:
    """Metrics on the eval split, see `report.metrics`, and "steps", "minutes", "canvas" (px)."""
    keras.utils.set_random_seed(config.seed)
    data, evaluation = config.data, config.evaluation
    records = open_split(data.dir, data.train_split, "config.data.train_split")
    evaluated = open_split(data.dir, data.eval_split, "config.data.eval_split")
    side = 2 ** _LEVELS[1] * math.ceil(data.longest_side / 2 ** _LEVELS[1])
    model = build(config, len(records.classes), side)
    steps = fit(model, batches(config, records, side), minutes, learning_rate)
    result = metrics(
        ground_truth(evaluated),
        detections(model, config, evaluated, side),
        records.classes,
        evaluation.method,
        evaluation.iou_threshold,
        evaluation.coco,
    )
    return {**result, "steps": steps, "minutes": minutes, "canvas": side}


def define_flags() -> None:
    """Defines the flags."""
    config_flags.DEFINE_config_file("config", None, "Experiment, a file in configs/.")
    flags.DEFINE_string("workdir", None, "Where metrics.json goes.")
    flags.DEFINE_float("minutes", 60.0, "Of training.", lower_bound=0.01)
    flags.DEFINE_float("learning_rate", 1e-3, "Of Adam, after the warm-up.", lower_bound=0.0)


def main(argv: Sequence[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if given.config is None or given.workdir is None:
        raise InputError("give --config=configs/NAME.py and --workdir=DIR")
    config: ConfigDict = given.config
    validate(config)
    if PREPROCESSING.get(config.backbone.preprocessing, ("bgr",))[0] != "rgb":
        raise InputError("--config: config.backbone.preprocessing is not one of RGB images")
    make_folder(given.workdir, "workdir")
    keep_freed_memory()
    result = train_and_score(config, given.minutes, given.learning_rate)
    write_json(os.path.join(given.workdir, "metrics.json"), result)
    print(f"mAP {100 * result['mAP']:.1f} after {result['steps']} steps, {given.minutes:g} minutes")


if __name__ == "__main__":
    define_flags()
    run(main)
