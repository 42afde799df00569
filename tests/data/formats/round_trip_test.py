"""Data written in each format, by hand or by the library supervision, and read back."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import supervision as sv
import tiny_formats as tiny

from ohem_tf.data import splits
from ohem_tf.errors import InputError

# Pixels: half of the last digit that a format writes, at 64 x 40 pixels.
WITHIN = {"yolo": 64e-6, "open_images": 32e-6, "label_studio": 1e-9}
WITH_OBJECTS = {name: objects for name, objects in tiny.PICTURES.items() if objects}
IN_ORDER = ("yolo", "cvat", "open_images")  # formats that give the classes an order


@pytest.mark.parametrize("format_", ["auto", "own"])
@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_flat_folder(tmp_path, kind, format_, capsys):
    tiny.make(tmp_path, kind)
    found = tiny.split(tmp_path, kind if format_ == "own" else "auto")
    expected = WITH_OBJECTS if kind == "open_images" else tiny.PICTURES
    if kind == "label_studio":
        expected = {f"uploads/{name}": objects for name, objects in expected.items()}
    assert tiny.same(found, expected, WITHIN.get(kind, 0))
    assert splits.find_classes(found) == (
        tiny.CLASSES if kind in IN_ORDER else tuple(sorted(tiny.CLASSES))
    )
    assert (found.skipped, found.name) == ({}, "train")
    said = capsys.readouterr().out
    assert said.startswith(f"format: {kind}, by ") == (format_ == "auto")


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_boxes_are_no_object_of_another_image(tmp_path, kind):
    """Each image holds its own picture, so ids and files were not mixed up."""
    tiny.make(tmp_path, kind)
    for entry in tiny.split(tmp_path, kind).entries:
        name = entry.image_id.rpartition("/")[2]
        tiny.picture(tmp_path / "again.bmp", name)
        assert entry.image_path.endswith(f"/{name}.png")
        size = (entry.width, entry.height)
        assert size == (tiny.WIDTH, tiny.HEIGHT)


def supervised(folder) -> sv.DetectionDataset:
    """The pictures as a data set of supervision; its boxes are points of a plane."""
    paths, annotations = [], {}
    for name, objects in tiny.PICTURES.items():
        path = folder / f"{name}.png"
        tiny.picture(path, name)
        paths.append(str(path))
        annotations[str(path)] = sv.Detections(
            xyxy=np.array([o[1:] for o in objects], np.float32).reshape(-1, 4),
            class_id=np.array([tiny.CLASSES.index(o[0]) for o in objects], int),
        )
    return sv.DetectionDataset(list(tiny.CLASSES), paths, annotations)


@pytest.mark.parametrize("kind", ["voc", "yolo", "labelme"])
def test_what_supervision_writes(tmp_path, kind):
    data, root = supervised(tmp_path / "plain"), tmp_path / "root"
    images, labels = str(root / "train/images"), str(root / "train/labels")
    if kind == "voc":
        data.as_pascal_voc(images, labels)
    elif kind == "yolo":
        data.as_yolo(images, labels, str(root / "data.yaml"))
    else:
        data.as_labelme(images, labels)
    within = 1e-3 if kind == "yolo" else 1e-5  # it writes five decimals
    assert tiny.same(tiny.split(root, "auto"), tiny.PICTURES, within)


LAYOUTS = {
    "beside": ("{split}/{name}.png", "{split}/{name}{ending}"),
    "roboflow": ("{split}/images/{name}.png", "{split}/labels/{name}{ending}"),
    "ultralytics": ("images/{split}/{name}.png", "labels/{split}/{name}{ending}"),
    "kaggle": ("JPEGImages/{split}/deep/{name}.png", "Annotations/{split}/deep/{name}{ending}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("kind", "ending", "text"),
    [
        ("voc", ".xml", tiny.voc_xml),
        ("yolo", ".txt", tiny.yolo_txt),
        ("labelme", ".json", tiny.labelme_json),
    ],
)
def test_layouts_with_splits(tmp_path, layout, kind, ending, text):
    image, annotation = LAYOUTS[layout]
    folders = {"train": "ac", "valid": "b", "test": "ab"}
    for split, names in folders.items():
        for name in names:
            words = {"split": split, "name": name, "ending": ending}
            tiny.picture(tmp_path / image.format(**words), name)
            tiny.write(tmp_path / annotation.format(**words), text(tiny.PICTURES[name]))
    if kind == "yolo":
        text = "names: {0: dog, 1: cat}\ntrain: ../train/images\nval: ../valid/images\n"
        tiny.write(tmp_path / "data.yaml", text)
        tiny.write(tmp_path / "README.roboflow.txt", "Provided by a Roboflow user\n")
    prefix = "deep/" if layout == "kaggle" else ""
    for asked, names in (("train", "ac"), ("val", "b"), ("valid", "b"), ("test", "ab")):
        found = tiny.split(tmp_path, "auto", asked, beside=("other",))
        expected = {prefix + name: tiny.PICTURES[name] for name in names}
        assert tiny.same(found, expected, WITHIN.get(kind, 0))
        assert found.name == asked
    with pytest.raises(InputError, match=r"no split 'dev'; splits there: test, train, valid"):
        tiny.split(tmp_path, kind, "dev")


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_folder_without_splits_is_one_split(tmp_path, kind):
    tiny.make(tmp_path, kind)
    with pytest.raises(InputError, match=r"no split 'train'; the folder has no splits; .*val_frac"):
        tiny.split(tmp_path, kind, beside=("val",))


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_an_image_that_is_missing(tmp_path, kind):
    tiny.make(tmp_path, kind)
    next(tmp_path.rglob("b.png")).unlink()
    with pytest.raises(InputError, match=r"image .*is missing; expected .*on_bad_record=skip drop"):
        tiny.split(tmp_path, kind)
    found = tiny.split(tmp_path, kind, on_bad_record="skip")
    assert found.skipped == {"image missing": 1}
    assert {entry.image_id.rpartition("/")[2] for entry in found.entries} >= {"a", "c"}


@pytest.mark.parametrize("kind", ["voc", "labelme"])
def test_an_image_that_nobody_has_annotated(tmp_path, kind):
    tiny.make(tmp_path, kind)
    tiny.picture(tmp_path / "new.png", "new")
    with pytest.raises(InputError, match=r"new\.png: has no (xml|json), so nobody has said"):
        tiny.split(tmp_path, kind)
    found = tiny.split(tmp_path, kind, on_bad_record="skip")
    assert found.skipped == {"annotation missing": 1}
    assert tiny.same(found, tiny.PICTURES, 0)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_an_image_of_another_size(tmp_path, kind):
    tiny.make(tmp_path, kind)
    path = next(tmp_path.rglob("a.png"))
    tiny.picture(path, "a", (tiny.HEIGHT, tiny.WIDTH))
    if kind in ("yolo", "open_images"):  # which know no size: boxes are fractions
        (box, _) = tiny.boxes(tiny.split(tmp_path, kind))["a"]
        assert box[1:] == pytest.approx([2.5, 8, 15, 40], abs=1e-4)
        return
    with pytest.raises(InputError, match=r"says width 64, but .*a\.png has 40"):
        tiny.split(tmp_path, kind)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_files_do_not_lead_out_of_the_folder(tmp_path, kind):
    root = tiny.make(tmp_path / "root", kind)
    image = next(root.rglob("a.png"))
    shutil.move(image, tmp_path / "a.png")
    image.symlink_to(tmp_path / "a.png")
    with pytest.raises(InputError, match="is a link that leads out of"):
        tiny.split(root, kind)
    assert len(tiny.split(root, kind, follow_links=True).entries) >= 3


@pytest.mark.parametrize("kind", ["voc", "yolo", "labelme"])
@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "\u202eb"])
def test_names_that_are_no_text(tmp_path, kind, name):
    tiny.make(tmp_path, kind, {name: tiny.PICTURES["a"]})
    with pytest.raises(InputError, match=r"is no (image id; expected one word|file name below)"):
        tiny.split(tmp_path, kind)


HOSTILE = ("../x", "a/b", "..", "", "a\nb", "x" * 300)


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("label", HOSTILE)
def test_class_names_that_are_no_file_names(tmp_path, kind, label, monkeypatch):
    objects = [(label, 4, 5, 24, 25)]
    monkeypatch.setattr(tiny, "CLASSES", (label,))
    if kind == "yolo":
        tiny.picture(tmp_path / "a.png", "a")
        tiny.write(tmp_path / "a.txt", tiny.yolo_txt(objects, (label,)))
        tiny.write(tmp_path / "data.yaml", f"names: [{label!r}]".replace("'", '"'))
    elif kind == "open_images":
        tiny.picture(tmp_path / "a.png", "a")
        tiny.write(
            tmp_path / "boxes.csv", f'ImageID,LabelName,XMin,XMax,YMin,YMax\na,"{label}",0,1,0,1\n'
        )
    else:
        tiny.make(tmp_path, kind, {"a": objects})
    with pytest.raises(InputError) as caught:
        tiny.split(tmp_path, kind)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_white_space_in_a_file_name_becomes_an_id_of_one_word(tmp_path):
    tiny.make(tmp_path, "voc", {"IMG 1 (2)": tiny.PICTURES["a"], "b": []})
    assert list(tiny.boxes(tiny.split(tmp_path, "voc"))) == ["IMG_1_(2)", "b"]
    tiny.make(tmp_path, "voc", {"IMG_1 (2)": []})
    with pytest.raises(InputError, match=r"IMG 1 \(2\) and IMG_1 \(2\) would both be image IMG_1"):
        tiny.split(tmp_path, "voc")


def test_two_images_of_one_name(tmp_path):
    tiny.make(tmp_path, "voc")
    tiny.picture(tmp_path / "images/a.jpg", "a")
    with pytest.raises(InputError, match=r"a\.png and images/a\.jpg would be the same image"):
        tiny.split(tmp_path, "voc")


def test_devkits_below_the_folder_are_named(tmp_path):
    (tmp_path / "VOC2007/ImageSets/Main").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no ImageSets/Main there, but in .*VOC2007; expected"):
        tiny.split(tmp_path, "voc")


@pytest.mark.parametrize("kind", ["voc", "yolo", "labelme"])
def test_folders_of_splits_that_lie_deeper(tmp_path, kind):
    """They would all be one split, the test images among them."""
    for split in ("train", "test"):
        tiny.make(tmp_path / f"export/{split}", kind)
    with pytest.raises(InputError, match=r"has no folder test, but .*/export has; expected --root"):
        tiny.split(tmp_path, kind, classes=tiny.CLASSES)


def test_no_such_folder(tmp_path):
    for kind in ("auto", *tiny.KINDS):
        with pytest.raises(InputError, match=r"--root=.*/nothing: no such folder"):
            tiny.split(tmp_path / "nothing", kind)
