"""How often OHEM with config.ohem.candidates selects other RoIs than the paper's OHEM.

    python -m benchmarks.candidates --workdir=runs/compare/ohem/seed-0 \
        --output=docs/results/candidates

On training images, at each snapshot of a run, without dropout and flips: the losses of all RoIs as
they are, and with the losses of some candidates alone exact; the share of the RoIs that hard mining
selects by the former that it selects by the latter too. Writes OUTPUT.md and .json;
OUTPUT.intro.md, if it exists, becomes the text above the table.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import flags
from tabulate import tabulate

from benchmarks.trained import Trained
from ohem_tf.comparison.page import read_introduction
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder, write_json
from ohem_tf.losses import RoILosses
from ohem_tf.models.batches import Batch, unbatch
from ohem_tf.progress import tqdm
from ohem_tf.workdir import snapshots


class Agreement(NamedTuple):
    """What I images say of C numbers of candidates."""

    alike: np.ndarray  # [I, C] share of the selected RoIs that are selected by the exact losses too
    depth: np.ndarray  # [I] rank among the exact losses of the last RoI that they select
    rois: np.ndarray  # [I] number of RoIs


def agreement(trained: Trained, candidates: list[int], images: tf.data.Dataset) -> Agreement:
    """Compares the selections by exact losses and with some `candidates`, image by image."""
    model, sampler = trained.model, trained.hard_mining()

    @tf.function(input_signature=[images.element_spec])
    def compiled(batch: Batch) -> tuple[tf.Tensor, ...]:
        (image,) = unbatch(batch)
        features = model.image_features(image["image"])
        rois = model.training_rois(image, features)

        def losses(count: int) -> RoILosses:
            return model.roi_network.read_only_losses(
                features, rois, image["scale"], None, candidates=count
            )

        exact = losses(0)
        chosen = [sampler.hardest(rois, losses(count)) for count in candidates]
        return exact.ranking, sampler.hardest(rois, exact), *chosen

    alike, depth, rois = [], [], []
    for batch in tqdm(images, desc="images"):
        ranking, wanted, *others = (x.numpy() for x in compiled(batch))
        alike.append([np.mean(np.isin(wanted, chosen)) for chosen in others])
        depth.append(np.sum(ranking >= ranking[wanted].min()))
        rois.append(len(ranking))
    return Agreement(np.array(alike), np.array(depth), np.array(rois))


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_string("workdir", None, "Of a training with OHEM that kept snapshots.")
    flags.DEFINE_list("candidates", ["64", "128", "192", "256", "320", "384"], "To try.")
    flags.DEFINE_integer("images", 200, "Training images to look at.", lower_bound=1)
    flags.DEFINE_string("output", None, "Base of the paths of the page.")


def main(_: list[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if not given.workdir or not given.output:
        raise InputError("give --workdir=DIR and --output=docs/results/NAME")
    paths = snapshots(given.workdir)
    if not paths:
        raise InputError(
            f"--workdir: {given.workdir} has no snapshots; train with --config.train.snapshot_every"
        )
    make_folder(os.path.dirname(given.output) or ".", "output")
    candidates = [int(count) for count in given.candidates]
    trained = Trained(given.workdir)
    rows, results = [], []
    for step, path in paths.items():
        trained.restore(path)
        found = agreement(trained, candidates, trained.batches(given.images))
        mean, low = 100 * found.alike.mean(axis=0), 100 * np.percentile(found.alike, 5, axis=0)
        deep = np.percentile(found.depth, 95)
        shares = [f"{m:.2f} ({p:.1f})" for m, p in zip(mean, low, strict=True)]
        rows.append([step, *shares, f"{found.depth.mean():.0f} ({deep:.0f})"])
        results.append(
            {
                "step": step,
                "images": len(found.rois),
                "rois": float(found.rois.mean()),
                "depth": {"mean": float(found.depth.mean()), "95 %": float(deep)},
                "candidates": candidates,
                "alike": {"mean": mean.tolist(), "5 %": low.tolist()},
            }
        )
    columns = ["step", *(f"{count} candidates" for count in candidates), "rank of the last"]
    parts = [
        read_introduction(given.output, "# RoIs selected by estimated losses"),
        tabulate(rows, columns, tablefmt="github", disable_numparse=True),
        f"RoIs selected alike, %: mean over {results[0]['images']} training images of "
        f"{results[0]['rois']:.0f} RoIs (5 % of the images have less than the number in "
        "parentheses). Rank of the last: how far down the exact losses the selected RoIs reach "
        "(95 % of the images: not further than in parentheses).",
    ]
    with open(f"{given.output}.md", "w", encoding="utf-8") as file:
        file.write("\n\n".join(parts) + "\n")
    write_json(f"{given.output}.json", results)
    print(f"{given.output}.md, .json")


if __name__ == "__main__":
    define_flags()
    run(main)
