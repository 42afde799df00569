"""Images a second of detection: one scale, five (M), iterative regression and voting (B), export.

    python -m benchmarks.inference --config=configs/paper.py:voc07_ohem \
        --config.data.dir=records/voc07 --baseline=OTHER_CHECKOUT

The model is the config's, with new fc layers whose outputs are spread as a trained model's are, so
that as many boxes reach the NMS. With --baseline, another checkout of this project detects in the
same photographs with the same weights, in a process of its own; the two take turns, image by image,
and their detections are compared. Without config.data.dir the images are noise. Writes
OUTPUT/inference.md and .json; OUTPUT/inference.intro.md, if it exists, becomes the text above the
tables.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from absl import flags
from ml_collections import ConfigDict, config_flags
from tabulate import tabulate

from benchmarks.inference_side import KINDS, Side
from benchmarks.step_time import example
from ohem_tf import boxes as box_ops
from ohem_tf import experiment, images
from ohem_tf.comparison.page import read_introduction, write_page
from ohem_tf.config import paper, validate
from ohem_tf.data.joined import open_split
from ohem_tf.data.pipeline import evaluation_examples
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.progress import tqdm
from ohem_tf.workdir import CHECKPOINTS, checkpoint_of, save_config

_CLASSES = 20
# Of a model of configs/voc07_320.py after training: the spread of a class's scores before the
# softmax, by how much background is ahead, and the spread of the normalised deltas.
_LOGIT_STD, _BACKGROUND, _DELTA_STD = 2.4, 10.0, 1.0

Photograph = tuple[np.ndarray, np.ndarray]  # [H, W, 3] uint8 and its proposals [R, 4]


def photographs(config: ConfigDict, count: int) -> Iterator[Photograph]:
    """The first images of the eval split, or noise of its usual size."""
    if config.data.dir:
        records = open_split(config.data.dir, config.data.eval_split, "config.data.eval_split")
        for _, one in zip(range(count), evaluation_examples(records), strict=False):
            yield one["image"], one["proposals"]
        return
    rng = np.random.default_rng(0)
    boxes = example(config, 2000)["proposals"].numpy()
    for i in range(count):
        yield rng.integers(0, 256, (375, 500, 3), np.uint8), boxes[i % len(boxes)]


def spread_outputs(model: FastRCNN, photograph: Photograph) -> None:
    """Scales cls_score and bbox_pred of a model that is not trained; see `_LOGIT_STD`."""
    image, proposals = photograph
    resized, scale = images.resize(image, 600, 1000)
    windows = box_ops.scale(proposals[:200], scale)
    pooled = model.roi_network.pooler(model.image_features(resized), windows)
    logits, deltas = model.roi_head(pooled)
    for layer, outputs, spread in (
        (model.roi_head.cls_score, logits.numpy(), _LOGIT_STD),
        (model.roi_head.bbox_pred, deltas.numpy().reshape(len(deltas), -1), _DELTA_STD),
    ):
        kernel, bias = layer.get_weights()
        factor = spread / outputs.std(axis=0)
        layer.set_weights([kernel * factor, bias - outputs.mean(axis=0) * factor])
    kernel, bias = model.roi_head.cls_score.get_weights()
    bias[0] += _BACKGROUND
    model.roi_head.cls_score.set_weights([kernel, bias])
    std = np.tile(np.float32([0.1, 0.1, 0.2, 0.2]), (_CLASSES + 1, 1))  # as the release's
    model.roi_head.set_target_statistics(np.zeros_like(std), std)


def changes(config: ConfigDict) -> ConfigDict:
    """What differs from the defaults: an older checkout does not know the newest fields."""
    plain = paper()
    return ConfigDict(
        {
            name: {k: v for k, v in value.items() if v != plain[name][k]}
            if isinstance(value, ConfigDict)
            else value
            for name, value in config.items()
            if value != plain[name]
        }
    )


def write_model(config: ConfigDict, photograph: Photograph, workdir: str) -> None:
    """A workdir as training leaves one, with what `spread_outputs` makes of a new model."""
    model = experiment.build_model(config, _CLASSES)
    spread_outputs(model, photograph)
    classes = tuple(f"class{k}" for k in range(1, _CLASSES + 1))
    save_config(changes(config), {}, classes, workdir)
    folder = os.path.join(workdir, CHECKPOINTS)
    manager = tf.train.CheckpointManager(checkpoint_of(model), folder, max_to_keep=1)
    manager.save(checkpoint_number=0)


def agreement(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """Share of their detections that ours has: class, score to 1e-3 of it, box to a tenth px."""
    boxes, scores, classes = ours
    found = 0
    for box, score, label in zip(*theirs, strict=True):
        near = np.abs(boxes - box).max(axis=1, initial=0.0) < 0.1
        alike = np.abs(scores - score) < 1e-3 * score
        found += bool(np.any(near & alike & (classes == label)))
    return found / max(len(theirs[1]), 1)


def measure(
    sides: Mapping[str, Side], pictures: Sequence[Photograph], kinds: Sequence[str]
) -> Iterator[dict[str, dict]]:
    """After each image {kind: {"seconds": {side: [per image]}, "agreement": [per image], ...}}."""
    results: dict[str, dict] = {
        kind: {"seconds": {name: [] for name in sides}, "agreement": [], "detections": []}
        for kind in kinds
    }
    for image, proposals in tqdm(pictures, desc="measuring", unit="image"):
        for kind, result in results.items():
            found = {}
            for name, side in sides.items():
                seconds, found[name] = side.detect(kind, image, proposals)
                result["seconds"][name].append(seconds)
            here = found["this"]
            result["detections"].append(len(here[1]))
            if "baseline" in found:
                result["agreement"].append(agreement(here, found["baseline"]))
        yield results


def page(results: dict[str, dict], stages: dict[str, dict], facts: dict, intro: str) -> str:
    """The Markdown page."""
    rows = []
    for kind, result in results.items():
        seconds = result["seconds"]["this"]
        row = [kind, f"{len(seconds) / sum(seconds):.2f}", f"{statistics.median(seconds):.2f}"]
        if "baseline" in result["seconds"]:
            before = result["seconds"]["baseline"]
            ratios = [a / b for a, b in zip(before, seconds, strict=True)]
            row += [
                f"{statistics.median(before):.2f}",
                f"**{statistics.median(ratios):.2f}**",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
                f"{100 * statistics.mean(result['agreement']):.2f}",
            ]
        rows.append(row)
    headers = ["detection", "images/s", "median s", "baseline s", "times as fast", "each image"]
    headers = [*headers, "same detections, %"][: len(rows[0])]
    parts = [[kind, *(f"{x:.2f}" for x in s.values())] for kind, s in stages.items()]
    names = ["seconds, one photograph", *next(iter(stages.values()))]

    def table(lines: list[list[str]], heads: list[str]) -> str:
        return tabulate(lines, heads, tablefmt="github", disable_numparse=True)

    lines = [intro, "", table(rows, headers), "", table(parts, names), ""]
    count = len(next(iter(results.values()))["detections"])
    facts = {"photographs": count, **facts}
    lines.append("; ".join(f"{key}: {value}" for key, value in facts.items()) + ".")
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """Defines the flags."""
    config_flags.DEFINE_config_file("config", None, "Experiment, a file in configs/.")
    flags.DEFINE_string("baseline", None, "Another checkout of this project, to compare with.")
    flags.DEFINE_multi_enum("kinds", list(KINDS), list(KINDS), "Which; by default all.")
    flags.DEFINE_integer("images", 5, "Photographs, each measured once.", lower_bound=1)
    flags.DEFINE_string("output", "docs/results", "Where the page goes.")


def main(argv: Sequence[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if given.config is None:
        raise InputError("give --config=configs/NAME.py")
    if given.baseline and not os.path.isdir(os.path.join(given.baseline, "ohem_tf")):
        raise InputError(f"--baseline: {given.baseline} is no checkout of this project")
    config = given.config
    validate(config)
    make_folder(given.output, "output")
    pictures = list(photographs(config, given.images))
    folders = {"this": os.getcwd()}
    if given.baseline:
        folders["baseline"] = os.path.abspath(given.baseline)
    facts = {
        "device": f"CPU, {len(os.sched_getaffinity(0))} cores",
        "backbone": os.path.basename(config.backbone.name),
        "arithmetic": config.dtype,
        "proposals of an image": round(statistics.mean(len(p) for _, p in pictures)),
        "detections of an image": f"at most {config.detection.max_detections}",
        "TensorFlow": tf.__version__,
    }
    with tempfile.TemporaryDirectory() as workdir:
        write_model(config, pictures[0], workdir)
        sides = {name: Side(folder, workdir, given.kinds) for name, folder in folders.items()}
        try:
            stages = sides["this"].stages(*pictures[0])
            for results in measure(sides, pictures, given.kinds):
                write(given.output, results, stages, facts)
        finally:
            for side in sides.values():
                side.close()


def write(output: str, results: dict[str, dict], stages: dict[str, dict], facts: dict) -> None:
    """Writes the page and the json."""
    base = os.path.join(output, "inference")
    text = page(results, stages, facts, read_introduction(base, "# Images a second of detection"))
    write_page(base, text, {"facts": facts, "results": results, "stages": stages})


if __name__ == "__main__":
    define_flags()
    run(main)
