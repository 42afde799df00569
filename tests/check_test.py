"""ohem_tf.check on raw data: each kind of finding planted once, and what prepare says to it."""

from __future__ import annotations

import dataclasses
import io
import json

import command_line
import cv2
import numpy as np
import pytest
import tiny_coco
import tiny_voc
from PIL import Image

from ohem_tf import check, prepare
from ohem_tf.data.options import Options
from ohem_tf.errors import InputError

CAT = ("cat", 5, 5, 30, 30)


@pytest.fixture
def root(tmp_path):
    return tiny_voc.make(tmp_path / "voc")


def options(root, splits=("train", "test"), **changes) -> Options:
    return Options("voc", str(root), splits, "", proposals="none", **changes)


def run(root, *arguments, split="train,test"):
    flags = ("--format=voc", f"--root={root}", f"--split={split}", "--num_workers=1")
    return command_line.run("ohem_tf.check", *flags, "--min_examples=1", *arguments)


def refusal(raw) -> str | None:
    """What prepare says to data, None if it takes them."""
    try:
        prepare.prepare(raw)
    except InputError as error:
        return str(error)
    return None


def counts(outcome) -> dict[str, int]:
    return {row["kind"]: row["count"] for row in outcome.as_json()["counts"]}


def add(root, split, image_id, *objects, **options) -> None:
    """One more image in a split."""
    tiny_voc.make_image(root, image_id, *objects, **options)
    with open(root / f"ImageSets/Main/{split}.txt", "a") as file:
        file.write(f"{image_id}\n")


def rewrite(root, image_id, change, kind, **options) -> None:
    """Stores an image again, after `change`, as a JPEG or PNG."""
    path = root / f"JPEGImages/{image_id}.png"
    image = change(Image.open(path))
    path.unlink()
    image.save(path.with_suffix(".jpg" if kind == "JPEG" else ".png"), kind, **options)


def somewhere(name, image_id) -> tuple:
    """An object in a place of its own, or images would look the same."""
    x0, x1, y0, y1 = np.random.default_rng(list(image_id.encode())).integers(1, 18, 4)
    return name, x0, y0, x1 + 24, y1 + 20


def plant(root) -> dict[str, int]:
    """Spoils the tiny data set, each way once; returns the findings, and the traits."""
    for image_id in ("missing", "cut", "size", "xml", "turned", "grey", "cmyk", "deep"):
        add(root, "train", image_id, somewhere("cat", image_id))
    (root / "JPEGImages/missing.png").unlink()
    cut = root / "JPEGImages/cut.png"
    cut.write_bytes(cut.read_bytes()[:-30])
    size = root / "Annotations/size.xml"
    size.write_text(size.read_text().replace("<width>48", "<width>47"))
    (root / "Annotations/xml.xml").write_text("<annotation>")
    exif = Image.Exif()
    exif[0x0112] = 8
    rewrite(root, "turned", lambda image: image, "JPEG", exif=exif)
    add(root, "train", "outside", ("cat", 12, 12, 51, 33))
    add(root, "train", "empty", ("dog", 12, 12, 12, 33))
    add(root, "train", "number", ("dog", 12, 12, 20, 33))
    number = root / "Annotations/number.xml"
    number.write_text(number.read_text().replace("<xmin>12", "<xmin>x"))
    add(root, "train", "tiny", ("dog", 12, 12, 14, 33))
    add(root, "train", "doubled", CAT, ("cat", 5, 5, 30, 31))
    add(root, "test", "unknown", somewhere("cow", "unknown"))
    add(root, "train", "first", ("dog", 3, 3, 40, 20))
    add(root, "train", "second", ("dog", 3, 3, 40, 20))
    (root / "JPEGImages/second.png").write_bytes((root / "JPEGImages/first.png").read_bytes())
    add(root, "test", "copy", ("dog", 5, 5, 24, 24))
    data = io.BytesIO((root / "JPEGImages/a.png").read_bytes())
    Image.open(data).save(root / "JPEGImages/copy.png", "BMP")
    rewrite(root, "grey", lambda image: image.convert("L"), "PNG")
    rewrite(root, "cmyk", lambda image: image.convert("CMYK"), "JPEG")
    pixels = cv2.imread(str(root / "JPEGImages/deep.png"))
    cv2.imwrite(str(root / "JPEGImages/deep.png"), pixels.astype(np.uint16) * 257)
    add(root, "train", "rare", somewhere("bird", "rare"))
    return dict.fromkeys(
        [
            *("annotation unreadable", "image missing", "image unreadable", "wrong size"),
            *("box outside the image", "empty box", "box not numeric", "unknown class"),
            *("turned by EXIF", "tiny box", "doubled box"),
            *("same image in two splits", "same image twice in a split"),
            "class with few examples",
        ],
        1,
    )


def test_a_clean_data_set_has_no_finding(root, tmp_path):
    result = run(root, f"--output={tmp_path / 'out'}")
    assert result.returncode == 0, result.stderr
    assert "no error; 0 findings to look at" in result.stdout
    found = json.loads((tmp_path / "out/check.json").read_text())
    assert (found["errors"], found["counts"], found["findings"]) == (0, [], [])
    train = found["splits"]["train"]
    assert (train["images"], train["readable"], train["without_object"]) == (5, 5, 1)
    assert (train["objects"], train["difficult"], train["clipped"]) == (6, 1, 1)
    assert train["per_class"] == {"cat": 3, "dog": 2}
    assert (train["traits"], train["proposals"]) == ({}, None)
    assert (tmp_path / "out/check.html").read_text().startswith("<!doctype html>")


def test_each_kind_is_found_once(root):
    expected = plant(root)
    outcome = check.check(options(root), min_examples=2)
    # Of "bird" there is one example in train, and none in test.
    assert counts(outcome) == expected | {"class with few examples": 2}
    by_kind = {f.kind: f for f in outcome.findings}
    assert outcome.errors == 8
    assert by_kind["same image in two splits"].pictures[0].image_id == "a"
    assert by_kind["same image in two splits"].pictures[1].image_id == "copy"
    assert dict(by_kind["same image twice in a split"].details) == {"identical": True}
    assert dict(by_kind["same image in two splits"].details) == {"identical": False}
    assert outcome.as_json()["splits"]["train"]["traits"] == {
        "greyscale": 1,
        "CMYK": 1,
        "16 bits": 1,
    }
    for kind, image_id, boxes in (
        ("tiny box", "tiny", [(11, 11, 33, 14)]),
        ("doubled box", "doubled", [(4, 4, 30, 30), (4, 4, 31, 30)]),
        ("box outside the image", "outside", [(11, 11, 33, 51)]),
        ("wrong size", "size", []),
    ):
        (picture,) = by_kind[kind].pictures
        assert picture.image_id == image_id
        assert [mark.box for mark in picture.marks] == boxes


def test_workers_do_not_change_the_findings(root):
    plant(root)
    assert check.check(options(root)).as_json() == (
        check.check(options(root), num_workers=2).as_json()
    )


@pytest.mark.parametrize("kind", [*tiny_voc.BAD_IMAGES, *tiny_voc.BAD_OBJECTS, "xml"])
@pytest.mark.parametrize("on_bad_record", ["error", "skip"])
def test_an_error_is_what_prepare_refuses(root, tmp_path, kind, on_bad_record):
    message = tiny_voc.damage(root, kind)
    raw = options(root, on_bad_record=on_bad_record)
    outcome = check.check(raw, min_examples=1)
    (finding,) = outcome.findings
    assert message in finding.message
    refused = refusal(dataclasses.replace(raw, output=str(tmp_path / "out")))
    assert outcome.errors == (refused is not None)
    assert finding.level == ("dropped" if refused is None else "error")
    assert refused in (None, finding.message, f"{finding.message} (--on_bad_record=skip drops it)")


def test_prepare_counts_what_check_shows(root, tmp_path, caplog, capsys):
    add(root, "train", "tiny", ("dog", 12, 12, 14, 33))
    add(root, "train", "doubled", CAT, ("cat", 5, 5, 30, 31))
    add(root, "test", "copy")
    (root / "JPEGImages/copy.png").write_bytes((root / "JPEGImages/a.png").read_bytes())
    raw = options(root)
    info = prepare.prepare(dataclasses.replace(raw, output=str(tmp_path / "out")))
    assert info["splits"]["train"]["remarks"] == {"tiny box": 1, "doubled box": 1}
    assert info["splits"]["test"]["remarks"] == {}
    assert "kept, but worth a look: tiny box 1, doubled box 1" in capsys.readouterr().out
    assert "1 images stand in more than one split, as a of train and copy of test" in caplog.text
    assert counts(check.check(raw, min_examples=1)) == {
        "tiny box": 1,
        "doubled box": 1,
        "same image in two splits": 1,
    }
    # The same of the records.
    assert counts(check.check(None, str(tmp_path / "out"), min_examples=1)) == {
        "tiny box": 1,
        "doubled box": 1,
        "same image in two splits": 1,
    }


def test_a_split_without_a_readable_image(root):
    for name in "tu":
        (root / f"JPEGImages/{name}.png").write_bytes(b"hello")
    outcome = check.check(options(root, on_bad_record="skip"), min_examples=0)
    assert counts(outcome) == {"split refused": 1, "image unreadable": 2}
    assert outcome.errors == 1


def test_splits_without_annotations(root):
    for name in "tu":
        (root / f"Annotations/{name}.xml").unlink()
    raw = options(root, splits=("test",), no_annotations=True)
    outcome = check.check(raw)
    assert (outcome.findings, outcome.splits[0].annotated) == ([], False)
    assert counts(check.check(dataclasses.replace(raw, no_annotations=False))) == {
        "annotation unreadable": 2,
        "split refused": 2,
    }


def test_a_split_that_cannot_be_made(root):
    raw = options(root, splits=("train", "val", "test"), val_fraction=0.01)
    outcome = check.check(raw, min_examples=0)
    assert counts(outcome) == {"split refused": 1}
    assert "--val_fraction=0.01: of the 5 images of 'train', 0 would" in outcome.findings[0].message


def test_coco(tmp_path):
    root = tiny_coco.make(tmp_path / "coco")
    raw = Options("coco", str(root), ("train", "val"), "", proposals="none")
    # A cow in each, and a crowd of cats: there is no cat to learn from.
    assert counts(check.check(raw, min_examples=1)) == {"class with few examples": 2}
    path = root / "annotations/instances_train.json"
    data = json.loads(path.read_text())
    cow = data["annotations"][0]
    data["annotations"] += [
        {**cow, "id": 3, "image_id": 99},
        {**cow, "id": 4, "bbox": [4, 6, 0, 3]},
        {**cow, "id": 5, "category_id": 50},
        {**cow, "id": 6, "category_id": 3, "bbox": [2, 2, 30, 30]},
    ]
    path.write_text(json.dumps(data))
    outcome = check.check(raw, min_examples=1)
    assert counts(outcome) == {
        "unknown image": 1,
        "unknown class": 1,
        "box without area": 1,
        "class with few examples": 1,
    }
    assert outcome.errors == 2
    with pytest.raises(InputError, match="unknown image_id 99"):
        prepare.prepare(dataclasses.replace(raw, output=str(tmp_path / "out")))


def test_proposals_of_a_file(root, tmp_path):
    # Only the dog of a has a proposal at IoU 0.5.
    box = [4, 4, 24, 24]
    boxes = {"a": [box, [0, 0, 9, 9]], "b": [box], "c": [box], "e": [box], "t": [box]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes | {"d": [[0, 0, 40, 48]]}))
    raw = dataclasses.replace(options(root), proposals=str(tmp_path / "boxes.json"))
    outcome = check.check(raw, min_examples=1)
    assert counts(outcome) == {"proposals refused": 1}
    assert "proposals missing for image u" in outcome.findings[0].message
    recall = outcome.as_json()["splits"]["train"]["proposals"]
    assert recall["proposals_per_image"] == 6 / 5
    assert recall["all"] == {"objects": 5, "recall": 1 / 5}
    assert recall["classes"]["dog"] == {"objects": 2, "recall": 1 / 2}
    assert recall["classes"]["cat"] == {"objects": 3, "recall": 0}
    assert recall["sizes"]["small"] == {"objects": 5, "recall": 1 / 5}
    assert recall["sizes"]["large"] == {"objects": 0, "recall": None}


def test_selective_search_gives_the_recall_that_prepare_prints(root, tmp_path):
    raw = dataclasses.replace(options(root), proposals="selective_search")
    info = prepare.prepare(dataclasses.replace(raw, output=str(tmp_path / "out")))
    for outcome in (check.check(raw), check.check(None, str(tmp_path / "out"))):
        for name, split in outcome.as_json()["splits"].items():
            expected = info["splits"][name]["proposals"]
            assert split["proposals"]["all"]["recall"] == expected["recall_at_0.5"]
            assert split["proposals"]["all"]["objects"] == expected["countable_objects"]
            assert split["proposals"]["proposals_per_image"] == expected["mean_per_image"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "expected --root with raw data and --split, or --records=DIR"),
        (("--records=x", "--root=y"), "--records and --root: expected one of them"),
        (("--root=y", "--workdir=x"), "--workdir: a trained model looks at records"),
        (("--records=x", "--format=voc"), "--format: is for raw data; expected --root with it"),
        (("--records=x", "--min_loss=2"), "--min_loss: is for a model; expected --workdir"),
        (("--records=x",), "x/dataset.json: not found"),
        (("--format=voc", "--root=x"), "--split is missing: expected the splits of the data"),
        (("--format=voc", "--root=x", "--split=a", "--num_workers=0"), "--num_workers=0: expected"),
    ],
)
def test_flags_that_cannot_work(flags, message):
    result = command_line.run("ohem_tf.check", *flags)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_exit_status_is_one_with_an_error(root):
    tiny_voc.damage(root, "truncated image")
    result = run(root)
    assert result.returncode == 1
    assert "1 errors: prepare refuses this data" in result.stdout
    assert run(root, "--on_bad_record=skip").returncode == 0
