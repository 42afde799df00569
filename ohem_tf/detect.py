"""Detects objects in pictures.

    python -m ohem_tf.detect --config=configs/NAME.py --workdir=DIR --images='*.jpg' --output=DIR

Proposals are computed on the fly. OUTPUT gets a picture per image with boxes, labels and scores,
the first of them on one page (detections.png), and detections.json: for each image a list of
{"class", "score", "box": [ymin, xmin, ymax, xmax] in pixels, half-open}.
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
from ohem_tf.errors import InputError, make_folder, run
from ohem_tf.evaluation.predict import Predictor

_PAGE = 24  # pictures on the page
_PAGE_NAME = "detections"


def define_flags() -> None:
    """Defines the flags."""
    config_flags.DEFINE_config_file("config", None, "As in training.")
    flags.DEFINE_string("workdir", None, "As in training.")
    flags.DEFINE_string("checkpoint", "last", "'last', 'best' or a path.")
    flags.DEFINE_string("images", None, "Pattern of image files, quoted: 'photos/*.jpg'.")
    flags.DEFINE_string("output", None, "Folder for pictures and detections.json.")
    flags.DEFINE_float("min_score", 0.5, "Draw detections at least this sure.")
    flags.DEFINE_integer("max_images", 0, "Take the first so many images; 0: all.")
    flags.DEFINE_enum("selective_search_mode", "fast", proposals.MODES, "As in prepare.")


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    given = flags.FLAGS
    for name in ("config", "workdir", "images", "output"):
        if given[name].value is None:
            raise InputError(f"--{name} is missing")
    proposals.require_selective_search()
    make_folder(given.output, "output")
    paths = sorted(glob.glob(os.path.expanduser(given.images), recursive=True))
    paths = paths[: given.max_images or None]
    if not paths:
        raise InputError(f"--images: no file matches {given.images}")
    names = _picture_names(paths)
    for path in tqdm(paths, desc="checking", unit="image", leave=False):
        _read(path)  # all of them before the first long search
    overrides = config_flags.get_override_values(given["config"])
    config = experiment.trained_config(given.config, overrides, given.workdir)
    classes = experiment.load_saved(given.workdir)["classes"]
    model = experiment.load_model(config, given.workdir, given.checkpoint)
    predictor = Predictor(model, experiment.detection_settings(config))

    results, page = {}, []
    for path, name in zip(tqdm(paths, desc="detecting", unit="image"), names, strict=True):
        image = _read(path)
        found = predictor(image, proposals.selective_search(image, given.selective_search_mode))
        results[path] = [
            {
                "class": classes[label - 1],
                "score": round(float(score), 4),
                "box": [round(float(side), 1) for side in box],
            }
            for box, score, label in zip(*found, strict=True)
        ]
        sure = found.scores >= given.min_score
        picture = drawing.draw_detections(image, *(x[sure] for x in found), classes)
        picture.save(os.path.join(given.output, f"{name}.png"))
        if len(page) < _PAGE:
            page.append(picture)
    drawing.contact_sheet(page, columns=4).save(os.path.join(given.output, f"{_PAGE_NAME}.png"))
    write_json(os.path.join(given.output, f"{_PAGE_NAME}.json"), results)
    print(f"{len(paths)} pictures, detections.png and detections.json in {given.output}")


def _picture_names(paths: Sequence[str]) -> list[str]:
    """Names of the output pictures; two inputs that would share one are refused."""
    names = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    taken = {_PAGE_NAME: f"the page of all pictures, {_PAGE_NAME}.png"}
    for path, name in zip(paths, names, strict=True):
        if name in taken:
            raise InputError(f"--images: {path} would overwrite the picture of {taken[name]}")
        taken[name] = path
    return names


def _read(path: str) -> np.ndarray:
    """An image file as [H, W, 3] uint8 RGB."""
    try:
        with open(path, "rb") as file:
            return np.asarray(checks.open_image(file.read()).convert("RGB"))
    except (OSError, ValueError) as error:
        raise InputError(f"--images: {path}: {error}; expected an image file") from error


def cli() -> None:
    """Console script."""
    define_flags()
    run(main)


if __name__ == "__main__":
    cli()
