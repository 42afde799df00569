"""The model card of an export: what it was trained on, how it did, its limits, how it is called."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from export import measure
from ohem_tf.workdir import METRICS

FILE = os.path.join("assets.extra", "README.md")  # where a server looks for nothing
_PYTHON = """import ohem_tf

detector = ohem_tf.load("EXPORT_DIR")
for box, score, label in zip(*detector.detect("photo.jpg")):
    print(detector.classes[label - 1], score, box)  # ymin, xmin, ymax, xmax in pixels"""
_PLAIN = """import tensorflow as tf

serve = tf.saved_model.load("EXPORT_DIR/VERSION").signatures["serving_default"]
found = serve({inputs})
# detection_boxes (ymin, xmin, ymax, xmax from 0 to 1), detection_scores, detection_classes (1: the
# first line of assets/classes.txt), num_detections"""


def write(folder: str, about: Mapping[str, Any], workdir: str) -> None:
    """Writes the card of a version.

    Args:
      folder: of the version.
      about: what is in its metadata.json.
      workdir: of the training; its metrics.json is quoted, if it has one.
    """
    path = os.path.join(folder, FILE)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(card(about, _metrics(os.path.join(workdir, METRICS))))


def _metrics(path: str) -> dict[str, Any] | None:
    """What an evaluation wrote, or None: a card without figures is better than no export."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    keys = {"mAP", "AP", "method", "iou_threshold", "coco", "images", "objects", "settings"}
    return found if isinstance(found, dict) and keys <= set(found) else None


def card(about: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> str:
    """The card, Markdown.

    Args:
      about: as in metadata.json of the export.
      metrics: what `ohem_tf.evaluate` wrote, or None.
    """
    config, versions = about["config"], about["versions"]
    data, train = config["data"], config["train"]
    backbone, proposed = config["backbone"], config["proposals"] == "rpn"
    facts = {
        "trained on": f"{data['dir']}, {data['train_split']}",
        "backbone": f"{backbone['name']}, started from weights: {backbone['weights']}",
        "regions": "its own proposals" if proposed else "proposals come with the image",
        "RoIs of a training step chosen by": config["sampler"],
        "training": f"{train['steps']} steps of {train['images_per_step']} images at a learning "
        f"rate of {train['learning_rate']:g}",
        "weights": about["checkpoint"],
        "computes in": about["dtype"],
        "image sizes": f"shorter side to {_numbers(config['detection']['shortest_sides'])} px, "
        f"longer at most {config['detection']['longest_side']} px",
        "trained with": ", ".join(f"{k} {v}" for k, v in versions["trained"].items()),
        "exported with": ", ".join(f"{k} {v}" for k, v in versions["exported"].items()),
    }
    parts = [
        "# Model card",
        "An object detector trained with ohem_tf (online hard example mining). All settings are in "
        "`assets/metadata.json`.",
        tabulate(facts.items(), ("", ""), "github", disable_numparse=True),
        "## Classes",
        ", ".join(_escaped(name) for name in about["classes"]),
        "## How well it detects",
        _results(about, metrics),
        "## Limits",
        _limits(about),
        "## How to call it",
        *_calls(about),
    ]
    return "\n\n".join(parts) + "\n"


def _results(about: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> str:
    parts = []
    if metrics is None:
        parts.append(
            "Not known: there was no complete metrics.json in the workdir when this was exported "
            "(`python -m ohem_tf.evaluate` writes it)."
        )
    else:
        settings = metrics["settings"]
        parts.append(
            f"mAP {_figure(metrics['mAP'])} on {settings['split']} ({metrics['images']} images), "
            f"VOC AP, method `{metrics['method']}`, IoU >= {metrics['iou_threshold']:g}, of the "
            f"weights {settings['checkpoint']}."
        )
        differs = [
            what
            for what, ours, theirs in (
                ("weights", about["checkpoint"], settings["checkpoint"]),
                ("detection settings", about["config"]["detection"], settings["detection"]),
            )
            if json.dumps(ours, sort_keys=True) != json.dumps(theirs, sort_keys=True)
        ]
        if differs:
            parts.append(f"**This export has other {' and other '.join(differs)}.**")
        rows = [
            (_escaped(name), metrics["objects"].get(name), _figure(ap))
            for name, ap in metrics["AP"].items()
        ]
        header = ("class", "objects", "AP")
        parts.append(tabulate(rows, header, "github", disable_numparse=True))
        if metrics["coco"]:
            parts.append(
                "COCO: " + ", ".join(f"{k} {_figure(v)}" for k, v in metrics["coco"].items()) + "."
            )
    if "measured" in about:
        table = measure.table(about["measured"])
        parts.append(f"What the export's arithmetic or SVD changes:\n\n```text\n{table}\n```")
    return "\n\n".join(parts)


def _limits(about: Mapping[str, Any]) -> str:
    lines = [
        "It knows the classes above and calls everything else background, or one of them.",
        "The figures hold for images like those it was evaluated on; on others, measure first.",
        "Scores are those of a softmax, not calibrated probabilities.",
        f"At most {about['config']['detection']['max_detections']} detections an image, with a "
        f"score of {about['config']['detection']['score_threshold']:g} or more.",
        "An EXIF orientation is ignored: turn images before.",
        "Who may use it depends on the licences of the training images and of the weights that the "
        "backbone started from; this file does not know them.",
    ]
    if about["flavour"] == "serving":
        lines.insert(3, f"Images of more than {about['max_pixels']} pixels are refused.")
    if about["needs_proposals"]:
        lines.insert(3, "It finds nothing outside the proposals that come with an image.")
    return "\n".join(f"- {line}" for line in lines)


def _calls(about: Mapping[str, Any]) -> list[str]:
    """In Python with ohem_tf, where that reads the flavour, and with TensorFlow alone."""
    serving = about["flavour"] == "serving"
    inputs = (
        "image_bytes=tf.io.read_file('photo.jpg')[None]"
        if serving
        else "image=tf.io.decode_jpeg(tf.io.read_file('photo.jpg'), channels=3)"
    )
    if about["needs_proposals"]:
        inputs += ", proposals=tf.zeros([1, 1, 4])" if serving else ", proposals=tf.zeros([1, 4])"
    parts = [f"With TensorFlow alone:\n\n```python\n{_PLAIN.format(inputs=inputs)}\n```"]
    if about["needs_proposals"]:
        parts.append(
            "`proposals` are boxes [ymin, xmin, ymax, xmax] in pixels, to be computed as those of "
            "the training were; the zeros above stand for none."
        )
    if serving:
        parts.insert(0, f"With ohem_tf, which computes proposals too:\n\n```python\n{_PYTHON}\n```")
        parts.append("TensorFlow Serving takes this folder's parent as the model's base path.")
    return parts


def _figure(value: float | None) -> str:
    return "no data" if value is None else f"{value:.3f}"


def _numbers(values: Any) -> str:
    return ", ".join(map(str, values))


def _escaped(name: str) -> str:
    """A name that data brought along, as Markdown that shows it."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+!|~" else c for c in name)
