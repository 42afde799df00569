"""Detects objects in pictures: python -m ohem_tf.detect --workdir=DIR --images='*.jpg' ...

Proposals are computed on the fly. OUTPUT gets a picture per image with boxes, labels and scores,
all of them on one page (detections.png), and detections.json.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

import numpy as np
from absl import flags
from ml_collections import config_flags
from tqdm import tqdm

from ohem_tf import drawing, experiment
from ohem_tf.data import checks, proposals
from ohem_tf.data.records import write_json
from ohem_tf.errors import InputError, run
from ohem_tf.evaluation.predict import Predictor

_CONFIG = config_flags.DEFINE_config_file("config", None, "As in training.")
_WORKDIR = flags.DEFINE_string("workdir", None, "As in training.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "last", "'last', 'best' or a path.")
_IMAGES = flags.DEFINE_string("images", None, "Pattern of image files, such as 'photos/*.jpg'.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for pictures and detections.json.")
_MIN_SCORE = flags.DEFINE_float("min_score", 0.5, "Draw detections at least this sure.")
_MAX_IMAGES = flags.DEFINE_integer("max_images", 0, "Take the first so many images; 0: all.")
_MODE = flags.DEFINE_enum("selective_search_mode", "fast", proposals.MODES, "As in prepare.")
_PAGE = 24  # pictures on detections.png


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    for flag in (_CONFIG, _WORKDIR, _IMAGES, _OUTPUT):
        if flag.value is None:
            raise InputError(f"--{flag.name} is missing")
    paths = sorted(glob.glob(os.path.expanduser(_IMAGES.value), recursive=True))
    paths = paths[: _MAX_IMAGES.value or None]
    if not paths:
        raise InputError(f"--images: no file matches {_IMAGES.value}")
    for path in tqdm(paths, desc="checking", unit="image", leave=False):
        _read(path)  # all of them before the first long search
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    config = experiment.trained_config(_CONFIG.value, overrides, _WORKDIR.value)
    classes = experiment.load_saved(_WORKDIR.value)["classes"]
    model = experiment.load_model(config, _WORKDIR.value, _CHECKPOINT.value)
    predictor = Predictor(model, experiment.detection_settings(config))

    os.makedirs(_OUTPUT.value, exist_ok=True)
    results, page = {}, []
    for path in tqdm(paths, desc="detecting", unit="image"):
        image = _read(path)
        found = predictor(image, proposals.selective_search(image, _MODE.value))
        results[path] = [
            {
                "class": classes[label - 1],
                "score": round(float(score), 4),
                "box": [round(float(side), 1) for side in box],
            }
            for box, score, label in zip(*found, strict=True)
        ]
        sure = found.scores >= _MIN_SCORE.value
        picture = drawing.draw_detections(image, *(x[sure] for x in found), classes)
        name = os.path.splitext(os.path.basename(path))[0]
        picture.save(os.path.join(_OUTPUT.value, f"{name}.png"))
        if len(page) < _PAGE:
            page.append(picture)
    drawing.contact_sheet(page, columns=4).save(os.path.join(_OUTPUT.value, "detections.png"))
    # [ymin, xmin, ymax, xmax] in pixels of the image, half-open
    write_json(os.path.join(_OUTPUT.value, "detections.json"), results)
    print(f"{len(paths)} pictures, detections.png and detections.json in {_OUTPUT.value}")


def _read(path: str) -> np.ndarray:
    """An image file as [H, W, 3] uint8 RGB."""
    try:
        with open(path, "rb") as file:
            return np.asarray(checks.open_image(file.read()).convert("RGB"))
    except (OSError, ValueError) as error:
        raise InputError(f"--images: {path}: {error}; expected an image file") from error


def cli() -> None:
    """Console script."""
    run(main)


if __name__ == "__main__":
    cli()
