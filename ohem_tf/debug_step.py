"""Replays a training step whose loss was not finite: python -m ohem_tf.debug_step DUMP.

DUMP is the file that ohem_tf.train left, WORKDIR/non_finite.npz: the images of the step, the
weights before it, and the config; nothing else is needed. Prints which RoIs of which image have a
loss that is not finite, in which pass, which term of the loss it is, and what of its inputs is not
finite.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from ohem_tf import experiment
from ohem_tf.config import paper
from ohem_tf.errors import InputError, run
from ohem_tf.models.batches import Batch, unbatch
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.models.replay import Pass, Replay, replay
from ohem_tf.training import dump as dumps

_MOST = 10  # RoIs of a pass that are listed


def rebuild(dump: dumps.Dump) -> FastRCNN:
    """The model of a dump as it was before the step.

    Raises:
      InputError: the weights are not those of the config, in this version.
    """
    config = paper()
    with config.unlocked():
        config.update(ConfigDict(dump.config))
    model = experiment.build_trainer(config, len(dump.classes), load_weights=False)
    shapes = [tuple(variable.shape) for variable in model.weights]
    if shapes != [value.shape for value in dump.weights]:
        raise InputError("the weights of the dump are not those of its config in this version")
    for variable, value in zip(model.weights, dump.weights, strict=True):
        variable.assign(value)
    model.optimizer.iterations.assign(dump.step)
    return model


def explain(dump: dumps.Dump, model: FastRCNN) -> list[str]:
    """Lines that say what is not finite in the step of `dump`; `model`: of `rebuild`."""
    lines: list[str] = []
    for variable in model.weights:
        lines += _not_finite(f"the weights {variable.path}", variable.numpy())
    batch = {name: tf.constant(value) for name, value in dump.batch.items()}
    for image_id, image in zip(dump.image_ids, unbatch(batch), strict=True):
        found = _image_lines(dump.classes, image, replay(model, image))
        lines += [f"image {image_id}: {line}" for line in found]
    return lines or [
        "every loss is finite in this replay: gradients overflowed (float16), or it takes the "
        "device or the number of threads of the training"
    ]


def _image_lines(classes: Sequence[str], image: Batch, done: Replay) -> Iterator[str]:
    objects = len(image["gt_classes"])
    for name in ("image", "gt_boxes", "proposals"):
        yield from _not_finite(name, image[name].numpy())
    for i, features in enumerate(done.features):
        yield from _not_finite(f"feature map {i}", features.numpy())
    for name, loss in done.others.items():
        yield from _not_finite(f"the loss {name}", loss.numpy())
    passes = {"read-only": done.read_only, "regular": done.regular}
    for name, pass_ in passes.items():
        if pass_ is None:
            continue
        wrong = pass_.wrong.numpy()
        if len(wrong):
            count = len(pass_.indices)
            yield f"{len(wrong)} of {count} RoIs have no finite loss in the {name} pass"
        for i in wrong[:_MOST]:
            yield _roi_line(classes, objects, pass_, i)
        if len(wrong) > _MOST:
            yield f"and {len(wrong) - _MOST} more"


def _roi_line(classes: Sequence[str], objects: int, pass_: Pass, i: int) -> str:
    """A RoI whose loss is not finite: where it is from, what it is, its losses, and why."""
    index, label = int(pass_.indices[i]), int(pass_.rois.labels[i])
    source = f"ground truth {index}" if index < objects else f"proposal {index - objects}"
    box, target = (x[i].numpy() for x in (pass_.rois.boxes, pass_.rois.targets))
    losses = {name: float(x[i]) for name, x in pass_.losses._asdict().items()}
    terms = " and ".join(name for name, value in losses.items() if not np.isfinite(value))
    values = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    why = "the outputs of the network are not finite, or overflow"
    if not np.isfinite(box).all() or (box[2:] <= box[:2]).any():
        why = "its box is not finite, or has no area"
    elif not np.isfinite(target).all():
        why = f"its normalised regression target is {_numbers(target)}"
    return (
        f"RoI {index} ({source}), box {_numbers(box)}, "
        f"{classes[label - 1] if label else 'background'}, IoU {float(pass_.rois.max_iou[i]):.2f}: "
        f"term {terms} ({values}); {why}"
    )


def _numbers(values: np.ndarray) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values)}]"


def _not_finite(name: str, values: np.ndarray) -> Iterator[str]:
    """A line on an array, if it is not finite."""
    if wrong := np.count_nonzero(~np.isfinite(values)):
        yield f"{name}: {wrong} of {values.size} values are not finite"


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    if len(argv) != 2:
        raise InputError("give one file: python -m ohem_tf.debug_step WORKDIR/non_finite.npz")
    dump = dumps.read(argv[1])
    print(f"step {dump.step + 1}, images {', '.join(dump.image_ids)}", flush=True)
    for line in explain(dump, rebuild(dump)):
        print(line)


def cli() -> None:
    """Console script."""
    run(main, takes_words=True)


if __name__ == "__main__":
    cli()
