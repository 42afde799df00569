"""Options of prepare that contradict each other, each named in one line."""

import pytest

from ohem_tf.data.options import Options
from ohem_tf.errors import InputError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "x"}, "--format=x: expected one of auto, voc, yolo, "),
        ({"num_workers": -1}, "--num_workers=-1: expected at least 0"),
        ({"splits": ("train", "train")}, "--split=train,train: expected each split once"),
        ({"splits": ("a/b",)}, "--split: 'a/b' is no name"),
        ({"splits": ()}, "--split is missing: expected the splits of the data"),
        ({"images": "x"}, "--images: is for --format=coco, cvat, label_studio, open_images; in a"),
        ({"format": "yolo", "annotations": "x"}, "--annotations: is for --format=coco, cvat"),
        ({"format": "open_images", "annotations": "x"}, "--annotations=x: expected {split} in it"),
        ({"format": "cvat", "annotations": "x", "root": None}, "--root: expected the folder"),
        ({"format": "yolo", "no_annotations": True}, "--no_annotations: is for --format=voc and"),
        ({"val_fraction": 1.0}, "--val_fraction=1.0: expected from 0 to below 1"),
        ({"val_fraction": 0.2, "splits": ("a",)}, "--val_fraction=0.2: --split=a names one split"),
        ({"val_fraction": 0.2, "no_annotations": True}, "--val_fraction: has no effect with --no_"),
        ({"split_seed": 1}, "--split_seed=1: has no effect without --val_fraction"),
        ({"val_fraction": 0.2, "split_seed": -1}, "--split_seed=-1: expected at least 0"),
        ({"format": "coco", "images": "x"}, "--images=x: expected {split} in it"),
        ({"root": None}, "--root: expected the folder"),
        ({"classes": ("a", "a")}, "--classes=a,a: expected each name once"),
    ],
)
def test_bad_options(changes, message):
    base = {"format": "voc", "root": "r", "splits": ("train", "test"), "output": "o"}
    with pytest.raises(InputError) as caught:
        Options(**base | changes)
    assert str(caught.value).startswith(message)


def test_what_is_made_is_not_listed():
    base = {"format": "voc", "root": "r", "output": "o", "splits": ("train", "val", "test")}
    assert Options(**base).listed == ("train", "val", "test")
    assert Options(**base, val_fraction=0.2).listed == ("train", "test")
    both = {"format": "cvat", "annotations": "x.xml", "images": "y"}
    assert Options(**base | both).listed == ("train", "val", "test")  # one file may have all splits
