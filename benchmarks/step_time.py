"""Seconds of one training step, side by side in one process: the paper's table 2.

    python -m benchmarks.step_time --config=configs/voc07.py

The baseline, OHEM as the paper and as the release select and with estimated losses
(config.ohem.candidates), and the naive form that back-propagates through all RoIs share one
network, one image batch (noise of the config's size) and one set of proposals; they take turns, so
that all meet the same load of the machine. Medians of --repeats rounds. On a GPU the peak memory of
each is written too. Writes OUTPUT/step_time.md and .json;
OUTPUT/step_time.intro.md, if it exists, becomes the text above the table. --name=OTHER calls the
page otherwise.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import tensorflow as tf
from absl import flags
from ml_collections import ConfigDict, config_flags

from ohem_tf import devices, experiment
from ohem_tf.comparison.page import read_introduction, write_page
from ohem_tf.config import validate
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder
from ohem_tf.hard_mining import HardMining, MaskedHardMining
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.progress import tqdm
from ohem_tf.sampler import Sampler
from ohem_tf.sampling import HeuristicSampling

CLASSES = 20


def samplers(config: ConfigDict) -> dict[str, Sampler]:
    """What is compared, by name; the first is what ratios refer to."""
    rois = config.train.rois_per_step // config.train.images_per_step
    hard = partial(HardMining, rois, chunk=config.ohem.chunk)
    found: dict[str, Sampler] = {
        "FRCN": HeuristicSampling(rois, bg_lo=0.0),
        "OHEM": hard(),
    }
    if config.head.pooling != "position_sensitive":  # where nothing is left to estimate
        candidates = config.ohem.candidates or 4 * rois
        found[f"OHEM, {candidates} candidates"] = hard(candidates=candidates)
    found["OHEM, NMS per label (release)"] = hard(per_label=True)
    found["all RoIs, masked losses (naive)"] = MaskedHardMining(rois)
    return found


def example(config: ConfigDict, proposals: int) -> dict[str, tf.Tensor]:
    """A batch as the pipeline gives it: N images of noise, 5 objects and R proposals each."""
    rng = np.random.default_rng(0)
    n = config.train.images_per_step
    height = min(config.data.shortest_sides)
    width = min(config.data.longest_side, height * 4 // 3)
    scale = 1.6  # of a VOC photograph of 500 px
    limits = np.array([height, width, height, width]) / scale
    objects = random_boxes(rng, (n, 5), limits)
    # A fifth of the proposals lies on the objects, as selective search's do.
    near = objects[:, rng.integers(5, size=proposals // 5)]
    near = near + rng.normal(0, 8, near.shape)
    near = np.sort(near.reshape(n, -1, 2, 2), axis=2).reshape(near.shape).clip(0, limits)
    others = random_boxes(rng, (n, proposals - near.shape[1]), limits)
    values = {
        "image": rng.uniform(0, 255, (n, height, width, 3)).astype(np.float32),
        "size": np.full((n, 2), [height, width], np.int32),
        "scale": np.full(n, scale, np.float32),
        "proposals": np.concatenate([near, others], axis=1),
        "proposals_mask": np.ones((n, proposals), bool),
        "gt_boxes": objects.astype(np.float32),
        "gt_classes": rng.integers(1, CLASSES + 1, (n, 5), np.int32),
        "gt_mask": np.ones((n, 5), bool),
        "position": np.arange(n, dtype=np.int64),
    }
    values["proposals"] = values["proposals"].astype(np.float32)
    return {name: tf.constant(value) for name, value in values.items()}


def random_boxes(
    rng: np.random.Generator, shape: tuple[int, ...], limits: np.ndarray
) -> np.ndarray:
    """Boxes [*shape, 4] of all sizes from 16 px up, within the image, [height, width] twice."""
    centres = rng.uniform(0, limits[:2], (*shape, 2))
    sizes = np.exp(rng.uniform(np.log(16), np.log(limits[0]), (*shape, 2)))
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=-1).clip(0, limits)


def compiled_steps(config: ConfigDict) -> dict[str, Callable]:
    """A compiled training step per sampler; all update the same weights with the same optimizer.

    At a rate of almost 0: every step meets the same weights, and noise cannot make them diverge.
    """
    config = config.copy_and_resolve_references()
    config.train.learning_rate = 1e-12
    model = experiment.build_model(config, CLASSES)
    optimizer = experiment.build_optimizer(config)
    optimizer.build(model.trainable_variables)
    steps = {}
    for name, sampler in samplers(config).items():
        variant = FastRCNN(
            model.backbone, model.roi_head, sampler, config.head.pooling, proposer=model.proposer
        )
        variant.optimizer = optimizer
        steps[name] = tf.function(variant.train_step, jit_compile=False)
    return steps


def measure(config: ConfigDict, proposals: int, repeats: int) -> dict[str, dict]:
    """{name: {"seconds": [each round], "peak_bytes": on a GPU}}."""
    batch = example(config, proposals)
    steps = compiled_steps(config)
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    results: dict[str, dict] = {name: {} for name in steps}
    for name, step in steps.items():  # traces, and lets memory and libraries settle
        for _ in range(2):
            step(batch)["loss/hard"].numpy()
        if on_gpu:
            tf.config.experimental.reset_memory_stats("GPU:0")
            step(batch)["loss/hard"].numpy()
            results[name]["peak_bytes"] = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    timed = {name: lambda f=step: f(batch)["loss/hard"].numpy() for name, step in steps.items()}
    for name, seconds in rounds(timed, repeats).items():
        results[name]["seconds"] = seconds
    return results


def rounds(steps: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """{name: seconds of each round} of steps that take turns, so that all meet the same load."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in tqdm(range(repeats), desc="measuring", unit="round"):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def device() -> str:
    """What the steps run on, for the page."""
    gpus = tf.config.get_visible_devices("GPU")
    if not gpus:
        return f"CPU, {len(os.sched_getaffinity(0))} cores"
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    timed = os.environ.get("TF_CUDNN_USE_AUTOTUNE") != "0"
    return (
        f"{name}, float32 with{'' if tf32 else 'out'} TF32, "
        f"cuDNN's algorithms chosen by {'timing' if timed else 'its rules'}"
    )


def setting(config: ConfigDict, proposals: int, repeats: int) -> dict[str, object]:
    """What the steps were, for the page: {fact: value}."""
    height = min(config.data.shortest_sides)
    return {
        "backbone": os.path.basename(config.backbone.name),
        "arithmetic": config.dtype,
        "image": f"{height} x {min(config.data.longest_side, height * 4 // 3)} px",
        "images a step (N)": config.train.images_per_step,
        "RoIs a step (B)": config.train.rois_per_step,
        "proposals of an image": (
            proposals
            if config.proposals == "records"
            else f"RPN, {config.rpn.train_proposals} at most"
        ),
        "pooling": config.head.pooling,
        "hidden layers of the head": " and ".join(map(str, config.head.hidden)),
        "RoIs per read-only forward step": config.ohem.chunk or "all",
        "rounds": repeats,
        "TensorFlow": tf.__version__,
    }


def page(results: dict[str, dict], facts: dict[str, object], intro: str) -> str:
    """The Markdown page."""
    lines = [intro, ""]
    has_memory = any("peak_bytes" in result for result in results.values())
    lines.append("| step | median s | ratio | ratio in each round |" + " GB |" * has_memory)
    lines.append("|---|---|---|---|" + "---|" * has_memory)
    first = next(iter(results.values()))["seconds"]
    for name, result in results.items():
        ratios = [a / b for a, b in zip(result["seconds"], first, strict=True)]
        line = (
            f"| {name} | {statistics.median(result['seconds']):#.4g} | "
            f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |"
        )
        if has_memory:
            line += f" {result['peak_bytes'] / 1e9:.1f} |"
        lines.append(line)
    lines += ["", "; ".join(f"{key}: {value}" for key, value in facts.items()) + "."]
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """Defines the flags."""
    config_flags.DEFINE_config_file("config", None, "Experiment, a file in configs/.")
    flags.DEFINE_integer("proposals", 2000, "R, proposals of each image.", lower_bound=5)
    flags.DEFINE_integer("repeats", 9, "Rounds.", lower_bound=1)
    flags.DEFINE_string("output", "docs/results", "Where the page goes.")
    flags.DEFINE_string("name", "step_time", "What the page is called.")


def main(argv: Sequence[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if given.config is None:
        raise InputError("give --config=configs/NAME.py")
    config = given.config
    validate(config)
    make_folder(given.output, "output")
    devices.use_one()
    results = measure(config, given.proposals, given.repeats)
    facts = {"device": device(), **setting(config, given.proposals, given.repeats)}
    base = os.path.join(given.output, given.name)
    text = page(results, facts, read_introduction(base, "# Seconds of a training step"))
    write_page(base, text, {"facts": facts, "results": results})


if __name__ == "__main__":
    define_flags()
    run(main)
