r"""Recall of proposals against their number: RPNs beside the proposals of records.

    python -m benchmarks.proposal_recall --workdirs=runs/voc07_320_fpn \
        --records=records/voc07_320 --split=val --name=proposal_recall

Of each model the best proposals, of the records the first ones: for selective search that is its
own order. Objects are those that count: neither difficult nor crowd. Writes OUTPUT/NAME.md, .json
and .png; OUTPUT/NAME.intro.md, if it exists, becomes the text above the table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from absl import flags
from matplotlib.figure import Figure
from tabulate import tabulate

from ohem_tf import boxes as box_ops
from ohem_tf import experiment, images
from ohem_tf.comparison.page import read_introduction, write_page
from ohem_tf.data.joined import open_split
from ohem_tf.data.pipeline import evaluation_examples
from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder
from ohem_tf.progress import tqdm

IOUS = (0.5, 0.7)
MISSED = np.iinfo(int).max
Proposals = Callable[[dict[str, np.ndarray]], np.ndarray]


def first_hits(boxes: np.ndarray, proposals: np.ndarray, iou_threshold: float) -> np.ndarray:
    """[G] rank, from 0 on, of the first proposal that covers each box; `MISSED` where none does."""
    if not len(proposals):
        return np.full(len(boxes), MISSED)
    hits = box_ops.iou(tf.constant(boxes), tf.constant(proposals)).numpy() >= iou_threshold
    return np.where(hits.any(axis=1), hits.argmax(axis=1), MISSED)


def recalls(
    records: RecordReader, sources: Mapping[str, Proposals], counts: Sequence[int]
) -> dict[str, dict[str, list[float]]]:
    """{source: {IoU: recall with each of `counts` proposals of an image}}, and the mean number."""
    ranks: dict[str, dict[float, list[np.ndarray]]] = {
        name: {iou: [] for iou in IOUS} for name in sources
    }
    found: dict[str, list[int]] = {name: [] for name in sources}
    for example in tqdm(evaluation_examples(records), total=len(records), desc="images"):
        counted = ~(example["difficult"] | example["crowd"])
        boxes = example["boxes"][counted]
        for name, source in sources.items():
            proposals = source(example)
            found[name].append(len(proposals))
            for iou in IOUS:
                ranks[name][iou].append(first_hits(boxes, proposals, iou))
    return {
        name: {
            **{
                str(iou): [float(np.mean(np.concatenate(x) < count)) for count in counts]
                for iou, x in of_iou.items()
            },
            "mean": float(np.mean(found[name])),
        }
        for name, of_iou in ranks.items()
    }


def of_model(workdir: str, most: int) -> Proposals:
    """The proposals of the RPN in a workdir, best first."""
    changes = {"rpn.test_proposals": most, "rpn.test_candidates": 2 * most}
    config = experiment.trained_config(None, changes, workdir)
    if config.proposals != "rpn":
        raise InputError(f"--workdirs: the model in {workdir} proposes nothing by itself")
    model = experiment.load_model(config, workdir)
    (side,) = config.detection.shortest_sides

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    def propose(image: tf.Tensor) -> tf.Tensor:
        resized, scale = images.resize(image, side, config.detection.longest_side)
        return model.propose(model.image_features(resized), tf.shape(resized)[:2], scale)

    return lambda example: propose(example["image"]).numpy()


def draw(results: Mapping[str, Mapping], counts: Sequence[int], path: str) -> None:
    """A curve for each source and IoU."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    for number, (name, result) in enumerate(results.items()):
        for iou, style in zip(IOUS, ("o-", "o--"), strict=True):
            label = f"{name}, IoU {iou}"
            axis.plot(counts, result[str(iou)], style, color=f"C{number}", ms=3, label=label)
    axis.set(xscale="log", xlabel="proposals an image", ylabel="recall", ylim=(0, 1))
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(results))
    figure.savefig(path, dpi=110)


def page(results: Mapping[str, Mapping], counts: Sequence[int], name: str, intro: str) -> str:
    """The Markdown page."""
    rows = [
        [source, str(iou), *(f"{100 * x:.1f}" for x in result[str(iou)]), f"{result['mean']:.0f}"]
        for source, result in results.items()
        for iou in IOUS
    ]
    headers = ["recall, %", "IoU", *map(str, counts), "proposals an image"]
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    return "\n".join([intro, "", f"![recall]({name}.png)", "", table]) + "\n"


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_list("workdirs", None, "Models with an RPN.")
    flags.DEFINE_string("records", None, "Prepared data with proposals.")
    flags.DEFINE_string("split", "val", "Of it.")
    flags.DEFINE_list("counts", ["1", "3", "10", "30", "100", "300", "1000"], "Proposals an image.")
    flags.DEFINE_string("name", "proposal_recall", "Of the page.")
    flags.DEFINE_string("output", "docs/results", "Where it goes.")


def main(argv: Sequence[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if not given.workdirs or not given.records:
        raise InputError("give --workdirs=DIR,DIR and --records=DIR")
    if not all(count.isdigit() and int(count) for count in given.counts):
        raise InputError(f"--counts: {','.join(given.counts)}; expected whole numbers > 0")
    counts = sorted(map(int, given.counts))
    records = open_split(given.records, given.split, "--split")
    if not records.has_proposals:
        raise InputError(f"--records: {given.records} was prepared with --proposals=none")
    make_folder(given.output, "output")
    sources = {os.path.normpath(w): of_model(w, counts[-1]) for w in given.workdirs}
    sources["records"] = lambda example: example["proposals"]
    results = recalls(records, sources, counts)
    base = os.path.join(given.output, given.name)
    intro = read_introduction(base, "# Recall of proposals")
    text = page(results, counts, given.name, intro)
    draw(results, counts, f"{base}.png")
    write_page(base, text, {"images": len(records), "counts": counts, "results": results})


if __name__ == "__main__":
    define_flags()
    run(main)
