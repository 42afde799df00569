"""Exports a trained detector for TensorFlow Serving.

    python -m export.saved_model --config=configs/NAME.py --workdir=DIR --output=EXPORT_DIR

writes EXPORT_DIR/1/, then 2/ and so on: images and proposals in, final detections out, in
operations of TensorFlow alone (see served.py for the signatures). A version appears atomically,
with a model card, assets.extra/README.md.
--dtype and --svd make it faster; what they cost is measured on the eval split, and printed.
--flavour=single_image writes a plainer graph for other runtimes instead (single_image.py), which
export.onnx and OpenVINO convert.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import tensorflow as tf
from absl import flags, logging
from ml_collections import ConfigDict, config_flags

import ohem_tf
from export import MODEL_NAME, card, compress, measure, versions, warmup
from export.served import ServedDetector
from export.single_image import SingleImageDetector, check_settings, random_inputs
from ohem_tf import devices, experiment
from ohem_tf.data.joined import open_split
from ohem_tf.errors import InputError, run
from ohem_tf.files import write_json
from ohem_tf.inference.predict import Predictor
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.workdir import checkpoint_path, load_saved

DTYPES = ("float32", "bfloat16", "float16")
FLAVOURS = ("serving", "single_image")


def export(
    config: ConfigDict,
    workdir: str,
    output: str,
    checkpoint: str = "last",
    dtype: str | None = None,
    ranks: Sequence[int] = (),
    max_pixels: int = 40_000_000,
    measure_images: int = 100,
    flavour: str = "serving",
) -> str:
    """Exports the detector in `workdir` as the next version in `output`, and says how it does.

    Args:
      config: see `experiment.trained_config`.
      workdir: of `python -m ohem_tf.train`.
      output: folder of the versions.
      checkpoint: see `experiment.load_model`.
      dtype: of `DTYPES`, to compute in; None: config.dtype, in which it was trained.
      ranks: see `compress.compress`.
      max_pixels: larger images are refused before they are decoded; not by "single_image".
      measure_images: how many images of the eval split, at most, measure dtype and SVD.
      flavour: of `FLAVOURS`: "serving", see `ServedDetector`, or "single_image", see
        `SingleImageDetector`, which computes in float32 whatever the model was trained in.

    Returns:
      The folder of the new version.

    Raises:
      InputError: no checkpoint, nothing to measure on, ranks that save nothing, no folder,
        settings that the flavour does not do.
    """
    single = flavour == "single_image"
    if single:
        check_settings(experiment.detection_settings(config))
        if dtype not in (None, "float32"):
            raise InputError(f"--dtype={dtype}: --flavour=single_image computes in float32")
    else:
        warmup.require_serving_api()
    path = _existing(workdir, checkpoint)
    devices.use_one()
    config = config.copy_and_resolve_references()
    trained, config.dtype = config.dtype, "float32" if single else dtype or config.dtype
    changed = (config.dtype != trained and not single) or any(ranks)
    records = None
    if changed and measure_images:
        records = open_split(config.data.dir, config.data.eval_split, "config.data.eval_split")
    with versions.new_version(output) as version:
        model = experiment.load_model(config, workdir, path)
        compress.compress(model.roi_head, ranks)
        about = _about(config, workdir, path, ranks, max_pixels)
        about["flavour"] = flavour
        about["needs_proposals"] = model.needs_proposals
        if records is not None:
            config.dtype = trained
            reference = experiment.load_model(config, workdir, path)
            about["measured"] = _measure(config, records, reference, model, measure_images)
        write = _write_single_image if single else _write
        seconds = write(version.temporary, config, model, about)
        card.write(version.temporary, about, workdir)
    size = sum(
        os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(version.path) for f in fs
    )
    print(
        f"{version.path}: {size / 1e6:.0f} MB, {seconds:.2f} s per image of noise on this machine"
    )
    return version.path


def _existing(workdir: str, checkpoint: str) -> str:
    """The path of a checkpoint, which is there; nothing has been built yet."""
    path = checkpoint_path(workdir, checkpoint)
    if not os.path.isfile(path if path.endswith(".weights.h5") else f"{path}.index"):
        field = "--best" if checkpoint == "best" else "--checkpoint"
        raise InputError(f"{field}: there is no {path}; expected one that ohem_tf.train wrote")
    return path


def _about(
    config: ConfigDict, workdir: str, path: str, ranks: Sequence[int], max_pixels: int
) -> dict[str, Any]:
    """What the export says of itself: assets/metadata.json and the signature `metadata`."""
    saved = load_saved(workdir)
    packages = {name: metadata.version(name) for name in ("tensorflow", "keras")}
    return {
        "classes": saved["classes"],
        "max_pixels": max_pixels,
        "dtype": config.dtype,
        "svd": list(ranks),
        "checkpoint": os.path.basename(path),
        "config": _without_folders(config),
        "versions": {
            "trained": saved["versions"],
            "exported": {"ohem-tf": ohem_tf.__version__, **packages},
        },
    }


def _without_folders(config: ConfigDict) -> dict[str, Any]:
    """The fields of a config; of files and folders the name alone: exports are passed on."""
    fields = config.to_dict()
    for section, name in (("data", "dir"), ("backbone", "name"), ("backbone", "weights")):
        value = fields[section][name]
        if os.path.exists(os.path.expanduser(value)):
            fields[section][name] = os.path.basename(os.path.abspath(value))
    return fields


def _measure(
    config: ConfigDict, records: Any, reference: FastRCNN, model: FastRCNN, images: int
) -> dict[str, Any]:
    settings = experiment.detection_settings(config)
    predictors = {
        "as trained": Predictor(reference, settings),
        "as exported": Predictor(model, settings),
    }
    measured = measure.compare(predictors, records, images, config.evaluation.to_dict())
    print(measure.table(measured))
    return measured


def _write(folder: str, config: ConfigDict, model: FastRCNN, about: Mapping[str, Any]) -> float:
    """Writes a SavedModel, loads it, and has it answer its warm-up requests.

    A server would refuse a version that cannot answer them.

    Returns:
      Seconds that a request takes.
    """
    settings = experiment.detection_settings(config)
    _save(ServedDetector(model, settings, about, about["max_pixels"]), folder, about)
    inputs = warmup.requests(
        max(settings.shortest_sides), settings.longest_side, model.needs_proposals
    )
    warmup.write(folder, inputs, MODEL_NAME)
    answer = tf.saved_model.load(folder).signatures["serving_default"]
    for tensors in inputs:
        answer(**{name: tf.constant(value) for name, value in tensors.items()})
    before = time.perf_counter()
    answer(**{name: tf.constant(value) for name, value in inputs[0].items()})
    return time.perf_counter() - before


def _write_single_image(
    folder: str, config: ConfigDict, model: FastRCNN, about: Mapping[str, Any]
) -> float:
    """As `_write`, the other flavour; there is no server to warm up."""
    settings = experiment.detection_settings(config)
    _save(SingleImageDetector(model, settings), folder, about)
    answer = tf.saved_model.load(folder).signatures["serving_default"]
    inputs = random_inputs(max(settings.shortest_sides), model.needs_proposals)
    answer(**inputs)
    before = time.perf_counter()
    answer(**inputs)
    return time.perf_counter() - before


def _save(
    module: ServedDetector | SingleImageDetector, folder: str, about: Mapping[str, Any]
) -> None:
    """Writes a SavedModel with the names of the classes and metadata.json among its assets."""
    classes, whole = (os.path.join(folder, name) for name in ("classes.txt", "metadata.json"))
    with open(classes, "w", encoding="utf-8") as file:
        file.writelines(f"{name}\n" for name in about["classes"])
    write_json(whole, about)
    module.assets = [tf.saved_model.Asset(path) for path in (classes, whole)]
    tf.saved_model.save(module, folder, signatures=module.by_name())
    for path in (classes, whole):  # copied to assets/
        os.remove(path)


def define_flags() -> None:
    """Defines the flags."""
    config_flags.DEFINE_config_file("config", None, "As in training; `detection` may differ.")
    flags.DEFINE_string("workdir", None, "As in training.")
    flags.DEFINE_string("output", None, "Folder of the versions, EXPORT_DIR.")
    flags.DEFINE_string("checkpoint", "last", "'last', 'best' or a path.")
    flags.DEFINE_bool("best", False, "The same as --checkpoint=best.")
    flags.DEFINE_enum("flavour", "serving", FLAVOURS, "For a server, or for export.onnx.")
    flags.DEFINE_enum("dtype", None, DTYPES, "Arithmetic; default: that of training.")
    flags.DEFINE_list(
        "svd", [], "Ranks of fc6, fc7, ... (Fast R-CNN: 1024,256); 0 leaves a layer as it is."
    )
    flags.DEFINE_integer(
        "max_pixels", 40_000_000, "Refuse larger images, height x width.", lower_bound=1
    )
    flags.DEFINE_integer(
        "measure_images",
        100,
        "Measure --dtype and --svd on at most this many; 0: do not.",
        lower_bound=0,
    )


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow lists every variable of the graph
    tf.get_logger().setLevel("WARNING")
    given = flags.FLAGS
    for name in ("config", "workdir", "output"):
        if given[name].value is None:
            raise InputError(f"--{name} is missing")
    if given.best and given["checkpoint"].present and given.checkpoint != "best":
        raise InputError(f"--best and --checkpoint={given.checkpoint}: give one of them")
    if given.flavour == "single_image" and given["max_pixels"].present:
        raise InputError("--max_pixels: has no effect with --flavour=single_image; leave it out")
    try:
        ranks = [int(rank) for rank in given.svd]
    except ValueError:
        raise InputError(f"--svd is {given.svd}; expected whole numbers: 1024,256") from None
    overrides = config_flags.get_override_values(given["config"])
    config = experiment.trained_config(given.config, overrides, given.workdir)
    export(
        config,
        given.workdir,
        given.output,
        "best" if given.best else given.checkpoint,
        given.dtype,
        ranks,
        given.max_pixels,
        given.measure_images,
        given.flavour,
    )


def cli() -> None:
    """Console script."""
    define_flags()
    run(main)


if __name__ == "__main__":
    cli()
