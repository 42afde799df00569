"""Options of prepare that contradict each other, each named in one line."""

import pytest

from ohem_tf.data.options import Options
from ohem_tf.errors import InputError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "x"}, "--format=x: expected one of voc, coco"),
        ({"num_workers": -1}, "--num_workers=-1: expected at least 0"),
        ({"splits": ("train", "train")}, "--split=train,train: expected each split once"),
        ({"splits": ("a/b",)}, "--split: 'a/b' is no name"),
        ({"images": "x"}, "--images: is for --format=coco"),
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
