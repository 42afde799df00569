"""Where the time of a training step goes, and how far each part is from what the machine can do.

    python -m benchmarks.step_profile --config=configs/voc07.py --config.backbone.weights=hed

The parts of Fast R-CNN's step and of OHEM's, exact and with candidates, for one image of
config's size (noise) and VGG16, compiled each apart; they take turns. The limit of a part is the
longer of two times: its FLOPs at the speed at which this machine multiplies large matrices in that
precision, and the bytes that it has to read and write at the speed at which it copies memory; both
are measured in the same rounds. Writes OUTPUT/step_profile.md and .json;
OUTPUT/step_profile.intro.md, if it exists, becomes the text above the table.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf
from absl import flags
from ml_collections import ConfigDict, config_flags

from benchmarks.step_time import CLASSES, device, example, rounds, setting
from ohem_tf import boxes as box_ops
from ohem_tf import devices, experiment
from ohem_tf.allocator import keep_freed_memory
from ohem_tf.comparison.page import read_introduction, write_page
from ohem_tf.config import validate
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder
from ohem_tf.hard_mining import HardMining
from ohem_tf.losses import roi_losses
from ohem_tf.models.batches import unbatch
from ohem_tf.models.heads import RoIHead
from ohem_tf.processor import has_bfloat16

_FRCN, _OHEM, _CANDIDATES = "FRCN", "OHEM", "candidates"
_ALL = (_FRCN, _OHEM, _CANDIDATES)


class Part(NamedTuple):
    """A part of a step: of which methods, what does it, and the work that it cannot do without."""

    methods: tuple[str, ...]
    run: Callable[[], object]
    flop: float = 0.0
    quick_flop: float = 0.0  # of those that candidates' estimates multiply, in bfloat16
    bytes: float = 0.0


def conv_work(network: keras.Model, height: int, width: int) -> tuple[float, float]:
    """FLOPs and bytes of VGG16's layers forward and backward; float32, each tensor once a pass."""
    shape, flop, size, trained_before = (1, height, width, 3), 0.0, 0.0, False
    for layer in network.layers[1:]:
        out = layer.compute_output_shape(shape)
        if isinstance(layer, keras.layers.Conv2D):
            once = 2.0 * layer.kernel.shape.num_elements() * out[1] * out[2]
            touched = 4.0 * (_count(shape) + _count(out) + layer.kernel.shape.num_elements())
            # Backward: the kernel's gradient, and that of the input, but for the first one trained.
            passes = (3 if trained_before else 2) if layer.trainable else 1
            trained_before |= layer.trainable
            flop, size = flop + passes * once, size + passes * touched
        shape = out
    return flop, size


def head_work(head: RoIHead, rois: int) -> tuple[float, float]:
    """FLOPs and bytes of fc6, fc7 and the outputs, forward."""
    kernels = [layer.kernel.shape for layer in (*head.hidden, head.cls_score, head.bbox_pred)]
    flop = sum(2.0 * rois * _count(kernel) for kernel in kernels)
    return flop, 4.0 * sum(_count(kernel) + rois * sum(kernel) for kernel in kernels)


def parts(config: ConfigDict, proposals: int, candidates: int) -> dict[str, Part]:
    """The parts of a step on one image, by name."""
    model = experiment.build_model(config, CLASSES)
    optimizer = experiment.build_optimizer(config)
    weights = model.trainable_variables
    optimizer.build(weights)
    (image,) = unbatch(example(config, proposals))
    features = model.image_features(image["image"])
    rois = model.training_rois(image, features)
    boxes = box_ops.scale(rois.boxes, image["scale"])
    count, selected = len(rois.labels), config.train.rois_per_step
    head, pooler = model.roi_head, model.roi_network.pooler
    seed = tf.constant([0, 1])
    pooled = pooler(features, boxes)
    coarse, basis = pooler.coarse(features, boxes), pooler.coarse_basis
    quick = "bfloat16" if has_bfloat16() else "float32"
    logits, deltas = head(pooled)
    gradients = [tf.zeros_like(w) for w in weights]
    sampler = HardMining(selected)

    def backbone_step() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            maps = model.backbone(image["image"][None])
        trained = model.backbone.trainable_variables
        return tape.gradient(maps, trained, tf.ones_like(maps))

    def pooling_step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(features)
            some = pooler(features, boxes[:selected])
        return tape.gradient(some, features, tf.ones_like(some))

    def head_step() -> list[tf.Tensor]:
        some = pooled[:selected]
        with tf.GradientTape() as tape:
            tape.watch(some)
            outputs = head(some, dropout_seed=seed)
        return tape.gradient(outputs, [some, *head.trainable_variables])

    cells = float(_count(features[0].shape))
    per_roi = float(_count(pooled.shape[1:]))
    conv = conv_work(model.backbone.network, *image["image"].shape[:2])
    all_rois, exact, few = (head_work(head, n) for n in (count, candidates, selected))
    share = (basis.shape[1] / basis.shape[0]) ** 2  # of fc6's rows
    fc6 = float(_count(head.hidden[0].kernel.shape))
    trained = float(sum(_count(w.shape) for w in weights))
    estimated = all_rois[0] - (1 - share) * 2 * count * fc6
    made = 2 * basis.shape[1] ** 2 * fc6  # the estimate's rows from fc6's
    work = {
        "conv layers, forward and backward": Part(_ALL, backbone_step, *conv[:1], 0, conv[1]),
        f"RoI pooling of {count}": Part(
            (_OHEM,), lambda: pooler(features, boxes), bytes=4 * (cells + count * per_roi)
        ),
        f"fc layers of {count}": Part(
            (_OHEM,), lambda: head(pooled, dropout_seed=seed), all_rois[0], 0, all_rois[1]
        ),
        f"RoI pooling of {count}, and cosines": Part(
            (_CANDIDATES,),
            lambda: pooler.coarse(features, boxes),
            # The P x P maxima of a RoI need not leave the cache.
            bytes=4 * (cells + share * count * per_roi),
        ),
        f"fc layers of {count}, estimated": Part(
            (_CANDIDATES,),
            lambda: head.estimator(basis, quick)(coarse),
            made,
            estimated,
            all_rois[1] - 4 * (1 - share) * count * per_roi,
        ),
        f"RoI pooling of {candidates}": Part(
            (_CANDIDATES,),
            lambda: pooler(features, boxes[:candidates]),
            bytes=4 * (cells + candidates * per_roi),
        ),
        f"fc layers of {candidates}": Part(
            (_CANDIDATES,),
            lambda: head(pooled[:candidates], dropout_seed=seed),
            exact[0],
            0,
            exact[1],
        ),
        "losses and NMS": Part(
            (_OHEM, _CANDIDATES),
            lambda: sampler.hardest(rois, roi_losses(logits, deltas, rois.labels, rois.targets)),
        ),
        f"RoI pooling of {selected}, forward and backward": Part(
            _ALL, pooling_step, bytes=8 * (cells + selected * per_roi)
        ),
        f"fc layers of {selected}, forward and backward": Part(
            _ALL, head_step, 3 * few[0], 0, 3 * few[1]
        ),
        # Gradient, weight and momentum are read, the last two written.
        "update": Part(_ALL, lambda: optimizer.apply(gradients, weights), bytes=20 * trained),
    }
    return {
        name: part._replace(run=tf.function(part.run, jit_compile=False))
        for name, part in work.items()
    }


def machine() -> dict[str, tuple[Callable[[], object], float]]:
    """What measures the machine: {name: (call, its FLOPs or bytes)}."""
    side = 4096
    square = {
        name: tf.cast(tf.random.normal([side, side]), name) for name in ("float32", "bfloat16")
    }
    if not has_bfloat16():
        square["bfloat16"] = square["float32"]
    data = tf.random.normal([2**26])
    # A sum of two tensors reads two and writes one.
    return {
        "float32": (tf.function(lambda: square["float32"] @ square["float32"]), 2.0 * side**3),
        "bfloat16": (tf.function(lambda: square["bfloat16"] @ square["bfloat16"]), 2.0 * side**3),
        "memory": (tf.function(lambda: data + 1.0), 2.0 * 4 * 2**26),
    }


def measure(
    config: ConfigDict, proposals: int, candidates: int, repeats: int
) -> tuple[dict[str, dict], dict[str, float]]:
    """The rows of the page by part, in seconds, and the machine's FLOP/s and bytes/s."""
    work, references = parts(config, proposals, candidates), machine()
    calls = {name: part.run for name, part in work.items()}
    calls |= {name: call for name, (call, _) in references.items()}
    timed = {name: lambda call=call: _finish(call()) for name, call in calls.items()}
    for call in timed.values():  # traces, and lets memory and libraries settle
        call()
    seconds = {name: statistics.median(x) for name, x in rounds(timed, repeats).items()}
    speed = {name: amount / seconds[name] for name, (_, amount) in references.items()}
    rows = {
        name: {
            "methods": part.methods,
            "seconds": seconds[name],
            "flop": part.flop + part.quick_flop,
            "bytes": part.bytes,
            "limit": max(
                part.flop / speed["float32"] + part.quick_flop / speed["bfloat16"],
                part.bytes / speed["memory"],
            ),
        }
        for name, part in work.items()
    }
    return rows, speed


def page(rows: dict[str, dict], facts: dict[str, object], intro: str) -> str:
    """The Markdown page."""
    lines = [intro, "", f"| part | {' | '.join(_ALL)} | GFLOP | MB | limit, ms | time / limit |"]
    lines.append("|---" * 8 + "|")
    for name, row in rows.items():
        times = [_milliseconds(row["seconds"]) if m in row["methods"] else "" for m in _ALL]
        limit = row["limit"]
        cells = [f"{row['flop'] / 1e9:.0f}", f"{row['bytes'] / 1e6:.0f}", _milliseconds(limit)]
        cells.append(f"{row['seconds'] / limit:.1f}" if limit else "")
        lines.append(f"| {' | '.join([name, *times, *cells])} |")
    sums = [sum(row["seconds"] for row in rows.values() if m in row["methods"]) for m in _ALL]
    totals = [_milliseconds(total) for total in sums]
    lines.append(f"| together, ms | {' | '.join(totals)} | | | | |")
    ratios = [f"{total / sums[0]:.2f}" for total in sums]
    lines.append(f"| / FRCN | {' | '.join(ratios)} | | | | |")
    lines += ["", "; ".join(f"{key}: {value}" for key, value in facts.items()) + "."]
    return "\n".join(lines) + "\n"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.{2 if 0 < seconds < 0.1 else 0}f}"


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _finish(result: object) -> None:
    """Waits for what a compiled function returns, without a copy of it."""
    for value in tf.nest.flatten(result):
        if isinstance(value, tf.Tensor):
            tf.reshape(value, [-1])[:1].numpy()


def define_flags() -> None:
    """Defines the flags."""
    config_flags.DEFINE_config_file("config", None, "Experiment, a file in configs/.")
    flags.DEFINE_integer("proposals", 2000, "R, proposals of the image.", lower_bound=5)
    flags.DEFINE_integer("candidates", 256, "Exact losses with candidates.", lower_bound=1)
    flags.DEFINE_integer("repeats", 5, "Rounds.", lower_bound=1)
    flags.DEFINE_string("output", "docs/results", "Where the page goes.")
    flags.DEFINE_string("name", "step_profile", "What the page is called.")


def main(_: list[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if given.config is None:
        raise InputError("give --config=configs/NAME.py")
    config = given.config.copy_and_resolve_references()
    validate(config)
    if config.backbone.name != "vgg16" or config.head.pooling != "max":
        raise InputError("--config: the profile counts the arithmetic of VGG16 and of max pooling")
    config.train.rois_per_step //= config.train.images_per_step
    config.train.images_per_step, config.train.learning_rate = 1, 1e-12
    make_folder(given.output, "output")
    devices.use_one()
    keep_freed_memory()
    rows, speed = measure(config, given.proposals, given.candidates, given.repeats)
    facts = {
        "device": device(),
        "matrix products": f"{speed['float32'] / 1e9:.0f} GFLOP/s in float32, "
        f"{speed['bfloat16'] / 1e9:.0f} in bfloat16",
        "memory": f"{speed['memory'] / 1e9:.1f} GB/s",
        **setting(config, given.proposals, given.repeats),
    }
    base = os.path.join(given.output, given.name)
    text = page(rows, facts, read_introduction(base, "# Where the time of a training step goes"))
    write_page(base, text, {"facts": facts, "speed": speed, "rows": rows})


if __name__ == "__main__":
    define_flags()
    run(main)
