r"""Finds images without objects that a detector is most wrong about, to train on.

    python -m ohem_tf.mine --workdir=runs/mine --images='unlabelled/*.jpg' --output=mined
    python -m ohem_tf.mine --saved_model=EXPORT_DIR/1 --images='unlabelled/*.jpg' --output=mined

The images are ones that hold no object of the detector's classes, so whatever it finds is a false
positive. Every RoI of such an image is background, and OHEM trains on the hardest of them; an image
in which the detector is sure of something has those. OUTPUT gets the images with the surest
detections (copies of one by perceptual hash count once), by descending score, as a VOC folder for
prepare, and OUTPUT/found/ what was found in them, drawn: look at found/detections.png first. What
is an object after all leaves the data with its line of ImageSets/Main/train.txt.

    python -m ohem_tf.prepare --root=mined --split=train --classes=mined/classes.txt \
        --proposals=none --output=records/mined
    python -m ohem_tf.train --config=configs/finetune.py:records/mine --workdir=runs/mine2 \
        --config.data.dir=records --config.data.train_split=mine/train+mined/train \
        --config.data.eval_split=mine/val
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from absl import flags
from PIL import Image

from ohem_tf import devices
from ohem_tf.allocator import keep_freed_memory
from ohem_tf.data import background, duplicates, proposals, remarks
from ohem_tf.detector import Detector, detect_files, load
from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder, owned
from ohem_tf.inference import album
from ohem_tf.inference.detection import Detections


class FalsePositives(NamedTuple):
    """What a detector found in an image that holds no object.

    Attributes:
      path: of the image.
      found: the detections, numpy arrays.
      look: its perceptual hash, see `remarks.perceptual_hash`.
    """

    path: str
    found: Detections
    look: int | None

    @property
    def score(self) -> float:
        """Of the surest detection; 0: none."""
        return float(self.found.scores.max(initial=0.0))


def search(
    detector: Detector, paths: Sequence[str], selective_search_mode: str
) -> Iterator[FalsePositives]:
    """Runs the detector over image files.

    Raises:
      InputError: as `detect_files`.
    """
    for path, image, found in detect_files(detector, paths, selective_search_mode):
        yield FalsePositives(path, found, remarks.perceptual_hash(Image.fromarray(image)))


def hardest(images: Sequence[FalsePositives], min_score: float, most: int) -> list[FalsePositives]:
    """The images with the surest detections, the surest first.

    Args:
      images: in any order.
      min_score: of a detection that counts.
      most: images that are taken; 0: all.

    Returns:
      Images of a score of `min_score` or more; of those that look the same the one with the
      highest. Equal scores are in the order of the paths.
    """
    wrong = [image for image in images if image.score >= min_score]
    wrong.sort(key=lambda image: (-image.score, image.path))
    hashed = [index for index, image in enumerate(wrong) if image.look is not None]
    copies = {
        hashed[other]
        for group in duplicates.groups([wrong[index].look or 0 for index in hashed])
        for other in group[1:]
    }
    kept = [image for index, image in enumerate(wrong) if index not in copies]
    return kept[: most or None]


def write(folder: str, mined: Sequence[FalsePositives], detector: Detector, score: float) -> None:
    """Writes the VOC folder, and the drawings of what is at least this sure.

    Raises:
      InputError: a file that has changed since it was read, or that cannot be written.
    """
    paths = [image.path for image in mined]
    ids = dict(zip(paths, background.image_ids(paths), strict=True))
    drawings = album.Album(os.path.join(folder, "found"), paths, detector.classes, score)

    def contents() -> Iterator[tuple[str, bytes, tuple[int, int]]]:
        for image in mined:
            encoded, pixels = album.read(image.path)
            drawings.add(image.path, pixels, image.found)
            yield ids[image.path], encoded, (pixels.shape[0], pixels.shape[1])

    background.write(folder, contents(), detector.classes)
    drawings.finish()


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_string("workdir", None, "Folder of ohem_tf.train.")
    flags.DEFINE_string("checkpoint", "last", "Of --workdir: 'last', 'best' or a path.")
    flags.DEFINE_string("saved_model", None, "EXPORT_DIR/VERSION, instead of the two above.")
    flags.DEFINE_string(
        "images", None, "Pattern of files of images without objects, quoted: 'photos/*.jpg'."
    )
    flags.DEFINE_string("output", None, "Folder for the VOC data, and the drawings.")
    flags.DEFINE_float("min_score", 0.5, "Of a detection that counts as a false positive.")
    flags.DEFINE_integer("max_mined", 200, "Images to write at most; 0: all.", lower_bound=0)
    flags.DEFINE_integer("max_images", 0, "Take at most this many images; 0: all.", lower_bound=0)
    flags.DEFINE_enum("selective_search_mode", "fast", proposals.MODES, "As in prepare.")


def _check_flags() -> None:
    given = flags.FLAGS
    if (given.workdir is None) == (given.saved_model is None):
        raise InputError("expected --workdir or --saved_model, one of them")
    if given.saved_model is not None and given["checkpoint"].present:
        raise InputError("--checkpoint: has no effect with --saved_model; leave one out")
    for name in ("images", "output"):
        if given[name].value is None:
            raise InputError(f"--{name} is missing")
    if not 0 < given.min_score < 1:
        raise InputError(f"--min_score={given.min_score}: expected a number between 0 and 1")


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    given = flags.FLAGS
    _check_flags()
    devices.use_one()
    keep_freed_memory()
    make_folder(given.output, "output")
    with owned(given.output, "output"):
        if os.path.exists(os.path.join(given.output, background.LIST)):
            raise InputError(
                f"--output: {given.output} holds data already; expected another folder"
            )
        paths = album.find(given.images, given.max_images)
        album.names(paths)
        background.image_ids(paths)
        album.check(paths)  # all of them before the first long search
        detector = load(given.workdir or given.saved_model, given.checkpoint)
        if detector.needs_proposals:
            proposals.require_selective_search()
        images = list(search(detector, paths, given.selective_search_mode))
        mined = hardest(images, given.min_score, given.max_mined)
        sure = sum(image.score >= given.min_score for image in images)
        print(f"{sure} of {len(images)} images have a detection of {given.min_score:g} or more")
        if mined:
            write(given.output, mined, detector, given.min_score)
            print(f"{len(mined)} images in {given.output}; look at found/detections.png there")


def cli() -> None:
    """Console script."""
    define_flags()
    run(main)


if __name__ == "__main__":
    cli()
