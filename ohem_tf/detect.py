"""Detects objects in images.

    python -m ohem_tf.detect --config=configs/NAME.py --workdir=DIR --images='*.jpg' --output=DIR
    python -m ohem_tf.detect --saved_model=EXPORT_DIR/1 --images='*.jpg' --output=DIR

with a training run, or with what export.saved_model made of one. Proposals are computed on the fly.
OUTPUT gets a PNG per image with boxes, labels and scores, the first of them on one page
(detections.png), and detections.json: for each image a list of {"class", "score", "box": [ymin,
xmin, ymax, xmax] in pixels, half-open}.
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from ohem_tf import devices
from ohem_tf.allocator import keep_freed_memory
from ohem_tf.data import proposals
from ohem_tf.detector import Detector, detect_files
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder
from ohem_tf.inference import album


def define_flags() -> None:
    """Defines the flags."""
    config_flags.DEFINE_config_file("config", None, "As in training.")
    flags.DEFINE_string("workdir", None, "As in training.")
    flags.DEFINE_string("checkpoint", "last", "'last', 'best' or a path.")
    flags.DEFINE_string("saved_model", None, "EXPORT_DIR/VERSION, instead of the three above.")
    flags.DEFINE_string("images", None, "Pattern of image files, quoted: 'photos/*.jpg'.")
    flags.DEFINE_string("output", None, "Folder for drawings and detections.json.")
    flags.DEFINE_float("min_score", 0.5, "Draw detections at least this sure.")
    flags.DEFINE_integer("max_images", 0, "Take at most this many images; 0: all.", lower_bound=0)
    flags.DEFINE_enum("selective_search_mode", "fast", proposals.MODES, "As in prepare.")


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    given = flags.FLAGS
    _check_flags()
    devices.use_one()
    keep_freed_memory()
    make_folder(given.output, "output")
    paths = album.find(given.images, given.max_images)
    album.names(paths)
    album.check(paths)  # all of them before the first long search
    detector = _trained() if given.saved_model is None else Detector.of_export(given.saved_model)
    if detector.needs_proposals:
        proposals.require_selective_search()
    drawings = album.Album(given.output, paths, detector.classes, given.min_score)
    for path, image, found in detect_files(detector, paths, given.selective_search_mode):
        drawings.add(path, image, found)
    print(drawings.finish())


def _check_flags() -> None:
    given = flags.FLAGS
    trained = [name for name in ("config", "workdir", "checkpoint") if given[name].present]
    if given.saved_model is not None and trained:
        raise InputError(f"--{trained[0]}: has no effect with --saved_model; leave one out")
    needed = ("config", "workdir") if given.saved_model is None else ()
    for name in (*needed, "images", "output"):
        if given[name].value is None:
            instead = " (or give --saved_model)" if name in needed else ""
            raise InputError(f"--{name} is missing{instead}")


def _trained() -> Detector:
    given = flags.FLAGS
    overrides = config_flags.get_override_values(given["config"])
    return Detector.of_run(given.workdir, given.checkpoint, given.config, overrides)


def cli() -> None:
    """Console script."""
    define_flags()
    run(main)


if __name__ == "__main__":
    cli()
