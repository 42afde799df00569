"""How often OHEM with config.ohem.candidates selects other RoIs than the paper's OHEM.

    python -m benchmarks.candidates --workdir=runs/voc07_320 --output=docs/results/candidates

On training images of a trained model, without dropout and flips: the losses of all RoIs as they
are, and with the losses of some candidates alone exact; the share of the RoIs that hard mining
selects by the former that it selects by the latter too. Writes OUTPUT.md and .json;
OUTPUT.intro.md, if it exists, becomes the text above the table.
"""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf
from absl import flags
from tabulate import tabulate
from tqdm import tqdm

from benchmarks.trained import Trained
from ohem_tf.comparison.page import read_introduction
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder, write_json
from ohem_tf.models.batches import Batch, unbatch
from ohem_tf.workdir import checkpoint_path


def agreement(
    trained: Trained, candidates: list[int], images: tf.data.Dataset
) -> list[dict[str, list]]:
    """For each image the share of RoIs selected alike, and how far down the losses they reach.

    Returns:
      {"shares": [one for each number of `candidates`], "depth": [1] rank of the selected RoI with
      the lowest loss, "rois": [1] their number}.
    """
    model, sampler = trained.model, trained.hard_mining()

    @tf.function(input_signature=[images.element_spec])
    def compiled(batch: Batch) -> tuple[tf.Tensor, ...]:
        (image,) = unbatch(batch)
        features = model.image_features(image["image"])
        boxes = tf.concat([image["gt_boxes"], image["proposals"]], axis=0)
        truth = (image["gt_boxes"], image["gt_classes"])
        rois = model.roi_network.match(boxes, *truth, trained.config.fg_iou)

        def losses(count: int) -> object:
            return model.roi_network.read_only_losses(
                features, rois, image["scale"], None, candidates=count
            )

        exact = losses(0)
        chosen = [sampler.hardest(rois, losses(count)) for count in candidates]
        return exact.ranking, sampler.hardest(rois, exact), *chosen

    found = []
    for batch in tqdm(images, desc="images"):
        ranking, wanted, *others = (x.numpy() for x in compiled(batch))
        shares = [np.mean(np.isin(wanted, chosen)) for chosen in others]
        depth = int(np.sum(ranking >= ranking[wanted].min()))
        found.append({"shares": shares, "depth": [depth], "rois": [len(ranking)]})
    return found


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_string("workdir", None, "Of a training with OHEM.")
    flags.DEFINE_string("checkpoint", "last", "As for ohem_tf.evaluate; several with commas.")
    flags.DEFINE_list("candidates", ["128", "192", "256", "320", "384"], "To try.")
    flags.DEFINE_integer("images", 200, "Training images to look at.", lower_bound=1)
    flags.DEFINE_string("output", None, "Base of the paths of the page.")


def main(_: list[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if not given.workdir or not given.output:
        raise InputError("give --workdir=DIR and --output=docs/results/NAME")
    make_folder(os.path.dirname(given.output) or ".", "output")
    candidates = [int(count) for count in given.candidates]
    trained = Trained(given.workdir)
    rows, results = [], []
    for checkpoint in given.checkpoint.split(","):
        trained.restore(checkpoint_path(given.workdir, checkpoint))
        found = agreement(trained, candidates, trained.batches(given.images))
        shares, depth, rois = (
            np.array([image[name] for image in found]) for name in ("shares", "depth", "rois")
        )
        name = os.path.basename(checkpoint_path(given.workdir, checkpoint)).split(".")[0]
        results.append(
            {
                "checkpoint": name,
                "images": len(found),
                "rois": float(rois.mean()),
                "depth": {"mean": float(depth.mean()), "95 %": float(np.percentile(depth, 95))},
                "selected_alike": {
                    count: {"mean": float(share.mean()), "5 %": float(np.percentile(share, 5))}
                    for count, share in zip(candidates, shares.T, strict=True)
                },
            }
        )
        rows += [
            [name, count, f"{100 * share.mean():.2f}", f"{100 * np.percentile(share, 5):.1f}"]
            for count, share in zip(candidates, shares.T, strict=True)
        ]
    columns = ["checkpoint", "candidates", "selected alike %", "worst 5 % of images"]
    depths = "; ".join(
        f"{r['checkpoint']}: {r['rois']:.0f} RoIs an image, the selected reach down to rank "
        f"{r['depth']['mean']:.0f} (mean; 95 % of the images: {r['depth']['95 %']:.0f})"
        for r in results
    )
    parts = [
        read_introduction(given.output, "# RoIs selected by estimated losses"),
        tabulate(rows, columns, tablefmt="github", disable_numparse=True),
        f"{results[0]['images']} training images. {depths}.",
    ]
    with open(f"{given.output}.md", "w", encoding="utf-8") as file:
        file.write("\n\n".join(parts) + "\n")
    write_json(f"{given.output}.json", results)
    print(f"{given.output}.md, .json")


if __name__ == "__main__":
    define_flags()
    run(main)
