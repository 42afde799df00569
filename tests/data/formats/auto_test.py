"""Which format a folder holds: none, one, or several."""

from __future__ import annotations

import os

import pytest
import tiny_coco
import tiny_formats as tiny
import tiny_voc

from ohem_tf.data.formats import auto
from ohem_tf.errors import InputError


def test_voc_and_coco(tmp_path):
    tiny_voc.make(tmp_path / "voc")
    assert auto.find(str(tmp_path / "voc")) == ("voc", "ImageSets/Main")
    tiny_coco.make(tmp_path / "coco")
    (tmp_path / "coco/voc").rename(tmp_path / "elsewhere")
    assert auto.find(str(tmp_path / "coco")) == ("coco", "annotations/instances_train.json")
    json = (tmp_path / "coco/annotations/instances_train.json").read_text()
    for name in ("_annotations.coco.json", "x.json"):
        tiny.write(tmp_path / f"roboflow/train/{name}", json)
        assert auto.find(str(tmp_path / "roboflow"))[0] == "coco"
        os.remove(tmp_path / f"roboflow/train/{name}")


def test_labels_of_yolo_without_a_yaml(tmp_path):
    tiny.make(tmp_path, "yolo")
    (tmp_path / "data.yaml").unlink()
    assert auto.find(str(tmp_path)) == ("yolo", "labels/a.txt")
    for text in ("see README\n", "0.5 0.5\n", ""):
        for path in (tmp_path / "labels").iterdir():
            path.write_text(text)
        with pytest.raises(InputError, match="holds none of these"):
            auto.find(str(tmp_path))


def test_none(tmp_path):
    tiny.picture(tmp_path / "a.png", "a")
    tiny.write(tmp_path / "a.txt", "notes")
    tiny.write(tmp_path / "package.json", "{}")
    tiny.write(tmp_path / "pom.xml", "<project/>")
    with pytest.raises(InputError) as caught:
        auto.find(str(tmp_path))
    message = str(caught.value)
    for part in ("voc: ImageSets/Main, or", "coco:", "yolo:", "cvat:", "labelme:", "label_studio:"):
        assert part in message
    assert "open_images: a .csv with ImageID" in message


def test_several(tmp_path):
    tiny.make(tmp_path, "voc")
    tiny.make(tmp_path, "labelme")
    with pytest.raises(
        InputError, match=r"may be labelme \(a\.json\), voc \(a\.xml\); expected --f"
    ):
        auto.find(str(tmp_path))


def test_the_file_that_the_user_names(tmp_path):
    tiny.make(tmp_path, "voc")
    tiny.write(tmp_path / "y.json", tiny.label_studio_json(tiny.PICTURES))
    found = auto.find(str(tmp_path), str(tmp_path / "y.json"))
    assert found == ("label_studio", "y.json")


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_empty_and_odd_files_do_no_harm(tmp_path, kind):
    tiny.make(tmp_path, kind)
    for name in ("e.xml", "e.json", "e.csv", "e.txt", "e.yaml", "e.yml"):
        tiny.write(tmp_path / name, "")
        (tmp_path / f"x{name}").write_bytes(b"\xff\xfe\0" * 100)
    os.mkfifo(tmp_path / "pipe.json")
    assert auto.find(str(tmp_path))[0] == kind
