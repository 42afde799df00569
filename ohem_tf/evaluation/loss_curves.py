"""Mean losses of runs over their steps, as a picture and as a table (see `ohem_tf.roi_loss`)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from tabulate import tabulate

from ohem_tf.errors import InputError
from ohem_tf.files import atomic, make_folder


def check_plot(path: str) -> None:
    """Raises InputError unless `plot` can write to `path`; makes its folder."""
    kinds = Figure().canvas.get_supported_filetypes()
    if os.path.splitext(path)[1][1:].lower() not in kinds or os.path.isdir(path):
        raise InputError(f"--output: {path} must end in one of .{', .'.join(sorted(kinds))}")
    make_folder(os.path.dirname(path) or ".", "output")


def plot(results: Mapping[str, Sequence[Mapping]], path: str) -> None:
    """Draws one curve per run over the steps of its snapshots.

    Args:
      results: {name of the run, or its folder: one dict per step, "step" ascending: "step", "loss"
        = "cls" + "box", and "rois", "images": how many the means are over}.
      path: the picture, in a format that matplotlib writes (.png, .pdf, .svg).
    """
    names = [os.path.basename(os.path.normpath(workdir)) for workdir in results]
    labels = names if len(set(names)) == len(names) else list(results)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for label, points in zip(labels, results.values(), strict=True):
        axis.plot([p["step"] for p in points], [p["loss"] for p in points], "o-", label=label)
    (images,) = {p["images"] for points in results.values() for p in points}
    axis.set_title(f"mean loss over all RoIs of {images} images")
    axis.set_xlabel("step")
    axis.set_ylabel("loss per RoI")
    axis.grid(alpha=0.3)
    axis.legend()
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=90)


def table(results: Mapping[str, Sequence[Mapping]]) -> str:
    """The points of `plot` as lines of text for a terminal."""
    means = ("loss", "cls", "box")
    rows = [
        (workdir, p["step"], *(f"{p[name]:.4f}" for name in means))
        for workdir, points in results.items()
        for p in points
    ]
    align = ("left", *["right"] * 4)
    text = tabulate(rows, ("run", "step", *means), colalign=align, disable_numparse=True)
    point = next(iter(results.values()))[0]
    return f"{text}\nmeans over the {point['rois']} RoIs of {point['images']} images"
