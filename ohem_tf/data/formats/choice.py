"""From --format to the images of a split."""

from __future__ import annotations

import dataclasses
import os

from ohem_tf import names
from ohem_tf.data import splits, voc
from ohem_tf.data.formats import (
    auto,
    cvat,
    label_studio,
    labelme,
    open_images,
    voc_beside,
    whole,
    yolo,
)
from ohem_tf.data.listed import Listing
from ohem_tf.data.options import AUTO, Options
from ohem_tf.errors import InputError
from ohem_tf.limits import Limits

_WHOLE = {"cvat": cvat, "label_studio": label_studio, "open_images": open_images}


def resolve(options: Options, limits: Limits) -> Options:
    """The options with a format that is not auto.

    Raises:
      InputError: as `auto.find`.
    """
    if options.format != AUTO:
        return options
    assert options.root is not None  # Options has checked it
    given = _own(options.annotations, options.listed[0])
    found, evidence = auto.find(options.root, given, limits)
    print(f"format: {found}, by {evidence}", flush=True)
    return dataclasses.replace(options, format=found)


def list_splits(options: Options, limits: Limits) -> list[splits.Split]:
    """Reads what the splits that are in the data list, but no image.

    Raises:
      InputError: as `list_split`; a split that --val_fraction is to make is there already.
    """
    if options.val_fraction and _is_there(options, options.splits[1]):
        raise InputError(
            f"--val_fraction: the split {options.splits[1]!r} is there already; leave the flag "
            "out, or give --split another name for the one to make"
        )
    return [list_split(options, name, limits) for name in options.listed]


def list_split(options: Options, name: str, limits: Limits) -> splits.Split:
    """Reads what a split lists, but no image.

    Raises:
      InputError: as the format's `list_split`, `splits.list_voc` or `splits.list_coco`.
    """
    how = (name, options.on_bad_record, not options.no_annotations)
    if options.format == "coco":
        annotations, images = _coco_places(options, name, limits)
        return splits.list_coco(annotations, images, *how, limits)
    root = options.root or os.path.dirname(options.annotations or "") or "."
    if options.format == "voc" and (options.no_annotations or voc.has_lists(root)):
        return splits.list_voc(root, *how)
    return splits.of_listing(name, _listing(options, root, name, limits), options.on_bad_record)


def _listing(options: Options, root: str, name: str, limits: Limits) -> Listing:
    alone = len(options.listed) == 1
    if options.format == "voc":
        return voc_beside.list_split(root, name, alone, limits)
    if options.format == "labelme":
        return labelme.list_split(root, name, alone, limits)
    if options.format == "yolo":
        return yolo.list_split(root, name, alone, options.classes, limits)
    source = whole.Source(
        root,
        name,
        alone,
        _own(options.annotations, name),
        _own(options.images, name),
        "{split}" in (options.annotations or ""),
        limits,
    )
    return _WHOLE[options.format].list_split(source)


def _own(template: str | None, split: str) -> str | None:
    return template.replace("{split}", split) if template else None


def _coco_places(options: Options, name: str, limits: Limits) -> tuple[str, str]:
    """The json and the folder of images: as the flags say, as COCO's zip files, or as Roboflow."""
    kind = "image_info" if options.no_annotations else "instances"
    usual = (f"annotations/{kind}_{name}.json", name)
    beside = (f"{name}/_annotations.coco.json", name)
    root = options.root or ""
    is_beside = os.path.isfile(os.path.join(root, beside[0]))
    annotations, images = (
        _own(given, name) or str(names.below(root, place, f"--split={name}", limits.follow_links))
        for given, place in zip(
            (options.annotations, options.images), beside if is_beside else usual, strict=True
        )
    )
    return annotations, images


def _is_there(options: Options, name: str) -> bool:
    """Whether the data has a split of that name itself."""
    if options.format != "cvat" and "{split}" not in (options.annotations or "{split}"):
        return False
    try:
        alone = dataclasses.replace(
            options, splits=(name, f"{name}-"), on_bad_record="skip", val_fraction=0.0, split_seed=0
        )
        list_split(alone, name, Limits.of_flags(options))
    except InputError:
        return False
    return True
