"""The flags that say what raw data is, for prepare, and for check, which reads it as prepare."""

from __future__ import annotations

from typing import Any

from absl import flags

from ohem_tf.data import options, proposals, splits
from ohem_tf.data.options import NONE, SELECTIVE_SEARCH

# Fields of `Options`, but for --split, whose meaning check extends to records.
NAMES = (
    *("format", "root", "classes", "annotations", "images", "no_annotations", "on_bad_record"),
    *("val_fraction", "split_seed"),
    *("proposals", "selective_search_mode", "min_proposal_size", "limit_factor", "follow_links"),
)


def define(default_proposals: str) -> None:
    """Defines the flags `NAMES`; not at import, since other binaries have flags of the same names.

    Args:
      default_proposals: of --proposals.
    """
    flags.DEFINE_enum(
        "format",
        options.AUTO,
        options.FORMATS,
        "Kind of raw data; auto finds out. docs/formats.md has what each looks like.",
    )
    flags.DEFINE_string(
        "root",
        None,
        "The folder of the data. VOC: of Annotations, ImageSets and JPEGImages, or of images with "
        "an xml each. COCO: of annotations/instances_SPLIT.json (--no_annotations: "
        "image_info_SPLIT.json) and of the images in SPLIT/.",
    )
    flags.DEFINE_string(
        "classes",
        None,
        "Class names with commas between, or a text file with one a line. By default those of the "
        "output's dataset.json, else those found in the first split. YOLO data that does not name "
        "its classes: the names of the numbers 0, 1, ...",
    )
    whole = "COCO, CVAT, Label Studio, Open Images:"
    flags.DEFINE_string("annotations", None, f"{whole} the file; {{split}} in it is replaced.")
    flags.DEFINE_string(
        "images", None, f"{whole} the folder of images; {{split}} in it is replaced."
    )
    flags.DEFINE_bool(
        "no_annotations",
        False,
        "VOC, COCO: the splits have no ground truth: for evaluate --write_results only. Classes "
        "are those of --classes, of the output's dataset.json, or of the 'categories' in the json.",
    )
    flags.DEFINE_enum(
        "on_bad_record",
        "error",
        splits.ON_BAD_RECORD,
        "skip drops a bad object, an image that cannot be read or that nobody has annotated, and "
        "prints a count per cause; check does not call those errors.",
    )
    flags.DEFINE_float(
        "val_fraction",
        0.0,
        "Makes a split where there is none: this share of the images of the first --split becomes "
        "the second (--split=train,val if it is not given), evenly in all classes.",
    )
    flags.DEFINE_integer("split_seed", 0, "Which images --val_fraction takes.")
    flags.DEFINE_string(
        "proposals",
        default_proposals,
        f"{SELECTIVE_SEARCH}; a .npz, .json or .mat file of boxes computed elsewhere; or {NONE}, "
        "for models with a region proposal network (config.proposals).",
    )
    flags.DEFINE_enum("selective_search_mode", "fast", proposals.MODES, "Kind of selective search.")
    flags.DEFINE_float("min_proposal_size", 2.0, "Least width and height of a proposal, in pixels.")
    flags.DEFINE_float(
        "limit_factor",
        1.0,
        "Multiplies the limits against absurd files (ohem_tf/data/limits.py): megabytes of xml and "
        "json, pixels, objects and proposals of an image, seconds and memory of reading a file.",
    )
    flags.DEFINE_bool(
        "follow_links",
        False,
        "Images and annotations may be links that lead out of --root (--images).",
    )


def values() -> dict[str, Any]:
    """The fields of `Options` that the flags give, `splits` among them.

    Raises:
      InputError: a file of classes that cannot be read.
    """
    given = flags.FLAGS
    found = {name: getattr(given, name) for name in NAMES}
    found["classes"] = options.read_classes(found["classes"])
    made = options.MADE if found["val_fraction"] else ()
    return found | {"splits": tuple(given.split or made)}
