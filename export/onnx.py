"""Converts a detector to ONNX, and checks with ONNX Runtime that it detects the same.

    python -m export.saved_model --flavour=single_image ... --output=EXPORT_DIR
    python -m export.onnx --saved_model=EXPORT_DIR/1 --output=model.onnx --image=photo.jpg

Inputs and outputs are those of single_image.py; the file's metadata has the names of the classes.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags, logging

from export.single_image import random_inputs
from ohem_tf.data import proposals
from ohem_tf.errors import InputError, first_line, run
from ohem_tf.files import make_folder
from ohem_tf.inference import album

OPSET = 18
_TOLERANCE = 1e-3
_LEAST_AGREEMENT = 0.9
_PACKAGES = ("onnx", "onnxruntime", "tf2onnx")


def convert(saved_model: str, output: str, image: str | None = None) -> float:
    """Writes a model.onnx, and says how its detections agree with those of TensorFlow.

    Args:
      saved_model: folder of one version that export.saved_model wrote with --flavour=single_image.
      output: the file; it appears once the check is passed.
      image: an image file to check with; None: noise, in which a good detector may find nothing.

    Returns:
      The share of detections that are the same, see `agreement`.

    Raises:
      InputError: a package is missing, no such SavedModel, an operation that is not converted, a
        model that detects something else.
    """
    _kept, signature, about = _load(saved_model)  # the signature alone would lose its variables
    onnx, onnxruntime, tf2onnx = _packages()
    make_folder(os.path.dirname(os.path.abspath(output)), "output")
    specs = list(signature.structured_input_signature[1].values())
    specs.sort(key=lambda spec: spec.name)  # image, proposals

    def detect(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return signature(**{spec.name: x for spec, x in zip(specs, inputs, strict=True)})

    try:
        model, _ = tf2onnx.convert.from_function(
            tf.function(detect, input_signature=specs, autograph=False),
            input_signature=specs,
            opset=OPSET,
        )
        facts = {name: json.dumps(about[name]) for name in ("classes", "config", "versions")}
        onnx.helper.set_model_props(model, facts)
        written = model.SerializeToString()
        session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    except Exception as error:  # both raise many kinds
        raise InputError(
            f"--saved_model: {saved_model} was not converted; an operation of its own proposer or "
            f"backbone that ONNX lacks? {first_line(error)}"
        ) from error
    inputs = _inputs(image, about)
    expected = {name: value.numpy() for name, value in signature(**inputs).items()}
    names = [x.name for x in session.get_outputs()]
    got = session.run(names, {name: value.numpy() for name, value in inputs.items()})
    same, found, largest = agreement(expected, dict(zip(names, got, strict=True)))
    share = same / found if found else 1.0
    print(
        f"{same} of {found} detections are the same within {_TOLERANCE:g} (boxes from 0 to 1, and "
        f"scores); largest difference among them {largest:.1g}"
    )
    if not found:
        print("nothing was detected, so that this says nothing: give --image=FILE, a photograph")
    if share < _LEAST_AGREEMENT:
        raise InputError(
            f"--saved_model: {saved_model} detects something else as ONNX; not written"
        )
    with open(f"{output}.part", "wb") as file:
        file.write(written)
    os.replace(f"{output}.part", output)
    print(f"{output}: {len(written) / 1e6:.0f} MB, ONNX opset {OPSET}")
    return share


def agreement(
    one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]
) -> tuple[int, int, float]:
    """How many detections of two runtimes are the same.

    Rounding may turn over a choice between two equals, in the NMS of the proposals for example, and
    with it a detection or two. So detections are compared as sets.

    Args:
      one, other: outputs of `SingleImageDetector`.

    Returns:
      The number of detections of `one` that `other` has too, with the same class, box and score
      within 0.001; the greater of both numbers of detections; the largest difference of a box or
      score among the former.
    """
    one_rows, other_rows = (
        np.concatenate(
            [
                outputs["detection_boxes"],
                outputs["detection_scores"][:, None],
                outputs["detection_classes"][:, None],
            ],
            axis=1,
        )[: int(outputs["num_detections"])]
        for outputs in (one, other)
    )
    found = max(len(one_rows), len(other_rows))
    differences = np.abs(one_rows[:, None] - other_rows[None, :]).max(axis=2, initial=0.0)
    if not differences.size:
        return 0, found, 0.0
    nearest = differences.min(axis=1)
    same = nearest[nearest <= _TOLERANCE]
    return len(same), found, float(same.max(initial=0.0))


def _packages() -> list[Any]:
    """The modules of the extra [onnx]."""
    try:
        return [importlib.import_module(name) for name in _PACKAGES]
    except ImportError as error:
        raise InputError(
            f"export.onnx needs {', '.join(_PACKAGES)} ({error}); pip install -e '.[onnx]'"
        ) from error


def _load(folder: str) -> tuple[Any, Any, dict[str, Any]]:
    """A SavedModel, its signature and its metadata.json."""
    try:
        with open(os.path.join(folder, "assets", "metadata.json"), encoding="utf-8") as file:
            about = json.load(file)
        if about.get("flavour") != "single_image":
            raise ValueError("it is for a server")
        loaded = tf.saved_model.load(folder)
        return loaded, loaded.signatures["serving_default"], about
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        raise InputError(
            f"--saved_model: {folder} is no version, EXPORT_DIR/1, that export.saved_model wrote "
            f"with --flavour=single_image: {first_line(error)}"
        ) from error


def _inputs(image: str | None, about: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """What to check with."""
    needs_proposals = about["needs_proposals"]
    if image is None:
        return random_inputs(max(about["config"]["detection"]["shortest_sides"]), needs_proposals)
    if not needs_proposals:
        return {"image": tf.constant(album.read(image)[1])}
    proposals.require_selective_search()
    boxes = proposals.read_and_search(image, "fast", 2.0)[2]
    return {
        "image": tf.constant(album.read(image)[1]),
        "proposals": tf.constant(boxes, tf.float32),
    }


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_string("saved_model", None, "EXPORT_DIR/1 of --flavour=single_image.")
    flags.DEFINE_string("output", None, "The file, model.onnx.")
    flags.DEFINE_string("image", None, "Check with this image file; default: noise.")


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    logging.set_verbosity(logging.WARNING)
    tf.get_logger().setLevel("ERROR")
    given = flags.FLAGS
    for name in ("saved_model", "output"):
        if given[name].value is None:
            raise InputError(f"--{name} is missing")
    convert(given.saved_model, given.output, given.image)


def cli() -> None:
    """Console script."""
    define_flags()
    run(main)


if __name__ == "__main__":
    cli()
