"""What OHEM selects over the course of a training, at the snapshots of a run.

    python -m benchmarks.hard_set --workdir=runs/compare/ohem/seed-0 --output=docs/results/hard_set

At each snapshot, on the same training images: how many RoIs are selected, the share of foreground,
how many RoIs harder than the last selected one the NMS removed, the share of the summed loss that
the selected ones hold, how much of the selected background lies on an object that is `difficult`,
which training leaves out, and how many of the selected were selected at the snapshot before: with a
snapshot an epoch, how the hard set turns over between two visits of an image. Writes OUTPUT.md,
.json and .png. No dropout and no flips, so that snapshots differ by their weights alone.
"""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf
from absl import flags
from matplotlib.figure import Figure
from tabulate import tabulate

from benchmarks.trained import Trained
from ohem_tf import boxes as box_ops
from ohem_tf.comparison.page import read_introduction
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder, write_json
from ohem_tf.hard_mining import HardMining
from ohem_tf.models.batches import Batch, unbatch
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.models.selection import select
from ohem_tf.progress import tqdm
from ohem_tf.workdir import snapshots

_COLUMNS = {
    "selected": "RoIs selected an image",
    "fg": "foreground among them %",
    "fg_all": "foreground among all %",
    "removed": "harder ones removed by the NMS",
    "loss_share": "their share of the summed loss %",
    "difficult": "background on a difficult object %",
    "kept": "selected at the snapshot before %",
}


def measure(model: FastRCNN, sampler: HardMining, batches: tf.data.Dataset) -> list[dict]:
    """`models.selection.select` for every image, as numpy arrays."""

    @tf.function(input_signature=[batches.element_spec])
    def compiled(batch: Batch) -> dict[str, tf.Tensor]:
        return select(model, sampler, unbatch(batch)[0], seed=tf.constant([0, 0]))._asdict()

    return [{k: v.numpy() for k, v in compiled(batch).items()} for batch in batches]


def on_difficult(image: dict, fg_iou: float) -> np.ndarray:
    """[R] bool: RoIs that would be foreground if `difficult` objects counted."""
    return box_ops.iou(image["boxes"], image["difficult"]).numpy().max(axis=1, initial=0) >= fg_iou


def figures(
    images: list[dict], before: list[dict] | None, fg_iou: float
) -> dict[str, float | None]:
    """Means over the images; see the module."""
    rows = []
    for i, image in enumerate(images):
        chosen, losses = image["selected"], image["losses"]
        background = chosen[image["labels"][chosen] == 0]
        rows.append(
            {
                "selected": len(chosen),
                "fg": 100 * np.mean(image["labels"][chosen] > 0),
                "fg_all": 100 * np.mean(image["labels"] > 0),
                "removed": np.sum(losses > losses[chosen].min()) - (len(chosen) - 1),
                "loss_share": 100 * losses[chosen].sum() / losses.sum(),
                "difficult": 100
                * np.sum(on_difficult(image, fg_iou)[background])
                / max(len(background), 1),
                "kept": 100 * np.mean(np.isin(chosen, before[i]["selected"])) if before else np.nan,
            }
        )
    means = {name: float(np.mean([row[name] for row in rows])) for name in _COLUMNS}
    return {name: None if np.isnan(value) else value for name, value in means.items()}


def of_classes(images: list[dict], classes: tuple[str, ...]) -> dict[str, float]:
    """Which share of the selected foreground each class is, against its share of all foreground."""
    chosen = np.concatenate([image["labels"][image["selected"]] for image in images])
    everything = np.concatenate([image["labels"] for image in images])
    shares = [
        np.bincount(labels[labels > 0], minlength=len(classes) + 1)[1:] / np.sum(labels > 0)
        for labels in (chosen, everything)
    ]
    return {name: float(c / a) for name, c, a in zip(classes, *shares, strict=True) if a > 0}


def draw(points: list[dict], path: str) -> None:
    """Each figure over the steps."""
    figure = Figure(figsize=(15, 6), layout="constrained")
    axes = figure.subplots(2, 4).ravel()
    for axis in axes[len(_COLUMNS) :]:
        axis.remove()
    for axis, (name, title) in zip(axes, _COLUMNS.items(), strict=False):
        shown = [(p["step"], p[name]) for p in points if p[name] is not None]
        axis.plot(*zip(*shown, strict=True), "o-")
        top = 1.1 * max(value for _, value in shown) or 1
        axis.set(title=title, xlabel="step", ylim=(0, top), xlim=(0, 1.05 * points[-1]["step"]))
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=90)


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_string("workdir", None, "Of a training with OHEM that kept snapshots.")
    flags.DEFINE_integer("images", 300, "Training images to look at.", lower_bound=1)
    flags.DEFINE_string("output", None, "Base of the paths of the page.")


def main(_: list[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if not given.workdir or not given.output:
        raise InputError("give --workdir=DIR and --output=docs/results/NAME")
    if len(snapshots(given.workdir)) < 2:
        raise InputError(
            f"--workdir: {given.workdir} has fewer than two snapshots; train with "
            "--config.train.snapshot_every"
        )
    trained = Trained(given.workdir)
    sampler = trained.hard_mining()
    make_folder(os.path.dirname(given.output) or ".", "output")
    batches = trained.batches(given.images)
    count = min(given.images, len(trained.records))
    difficult = trained.difficult(given.images)
    points: list[dict] = []
    before = None
    for step, path in tqdm(snapshots(given.workdir).items(), desc="snapshots"):
        trained.restore(path)
        images = measure(trained.model, sampler, batches)
        for image, boxes in zip(images, difficult, strict=True):
            image["difficult"] = boxes
        points.append({"step": step, **figures(images, before, trained.config.fg_iou)})
        before = images
    shares = of_classes(before or [], trained.records.classes)
    draw(points, f"{given.output}.png")
    write_json(f"{given.output}.json", {"images": count, "points": points, "classes": shares})
    rows = [[p["step"], *("" if p[n] is None else f"{p[n]:.1f}" for n in _COLUMNS)] for p in points]
    by_class = sorted(shares.items(), key=lambda item: -item[1])
    parts = [
        read_introduction(given.output, "# What OHEM selects"),
        f"![over the steps]({os.path.basename(given.output)}.png)",
        tabulate(rows, ["step", *_COLUMNS.values()], tablefmt="github", disable_numparse=True),
        f"Means over {count} training images.",
        "## Classes\n\nShare of a class among the selected foreground at the last snapshot, "
        "divided by its share of all foreground RoIs.",
        tabulate([[n, f"{r:.2f}"] for n, r in by_class], ["class", "ratio"], tablefmt="github"),
    ]
    with open(f"{given.output}.md", "w", encoding="utf-8") as file:
        file.write("\n\n".join(parts) + "\n")
    print(f"{given.output}.md, .json, .png")


if __name__ == "__main__":
    define_flags()
    run(main)
