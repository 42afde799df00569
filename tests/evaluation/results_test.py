"""Results files, read back by parsers written here and by pycocotools: the same AP as before."""

import contextlib
import io
import json
import os

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ohem_tf.errors import InputError
from ohem_tf.evaluation import coco, results, voc

CLASSES = ("cat", "dog", "potted plant")
IDS = (17, 3, 90)


def make(images=30, seed=0, size=(200.0, 300.0)):
    """Objects, and detections around them: corners of objects are whole pixels, as VOC's."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(images):
        count = rng.integers(0, 4)
        low = rng.integers(0, 100, (count, 2))
        boxes = np.concatenate([low, low + rng.integers(10, 90, (count, 2))], axis=1)
        classes = rng.integers(1, 4, count)
        truth.append({"boxes": boxes, "classes": classes, "difficult": rng.random(count) < 0.2})
        guesses = np.repeat(boxes, 3, axis=0) + rng.normal(0, 12, (3 * count, 4))
        guesses = np.clip(guesses, 0, np.float64([*size, *size])).astype(np.float32)
        labels = np.where(rng.random(3 * count) < 0.8, np.repeat(classes, 3), 1).astype(np.int32)
        scores = rng.random(3 * count).astype(np.float32)
        found.append({"boxes": guesses, "scores": scores, "classes": labels})
    return truth, found


def read_voc(directory, split, image_ids):
    """The devkit's reading of comp4 files: 1-based inclusive corners, as detections again."""
    rows = {image_id: [] for image_id in image_ids}
    for label, name in enumerate(CLASSES, 1):
        for line in (directory / f"comp4_det_{split}_{name}.txt").read_text().splitlines():
            image_id, score, xmin, ymin, xmax, ymax = line.split(" ")
            corners = [float(ymin) - 1, float(xmin) - 1, float(ymax), float(xmax)]
            rows[image_id].append((corners, float(score), label))
    return [
        {"boxes": [r[0] for r in rows[i]], "scores": [r[1] for r in rows[i]]}
        | {"classes": [r[2] for r in rows[i]]}
        for i in image_ids
    ]


def test_a_line_of_voc_is_1_based_and_inclusive(tmp_path):
    """Our half-open [ymin, xmin, ymax, xmax] of the first 4 rows and 6 columns of an image."""
    found = [
        {"boxes": np.float32([[0, 0, 4, 6]]), "scores": np.float32([0.5]), "classes": [2]},
        {"boxes": np.zeros((0, 4)), "scores": [], "classes": []},
        {"boxes": [[1.5, 2.25, 30, 40]], "scores": np.float32([1e-5]), "classes": [2]},
    ]
    ids = ("2008_000001", "2008_000002", "2008_000003")
    paths = results.write(str(tmp_path), "test", CLASSES, None, ids, found)
    names = ["comp4_det_test_cat.txt", "comp4_det_test_dog.txt", "comp4_det_test_potted plant.txt"]
    assert paths == [str(tmp_path / name) for name in names]
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    assert (tmp_path / names[0]).read_text() == (tmp_path / names[2]).read_text() == ""
    assert (tmp_path / names[1]).read_text() == (
        "2008_000001 0.5 1.000 1.000 6.000 4.000\n2008_000003 0.00001 3.250 2.500 40.000 30.000\n"
    )


@pytest.mark.parametrize("method", ["voc07", "area"])
def test_voc_files_give_the_same_ap(tmp_path, method):
    truth, found = make()
    ids = [f"{i:06d}" for i in range(len(found))]
    results.write(str(tmp_path), "val", CLASSES, None, ids, found)
    again = read_voc(tmp_path, "val", ids)
    assert sum(len(f["scores"]) for f in found) > 30
    wanted = voc.average_precision(truth, found, 0.5, method)
    assert all(0.1 < wanted[label] < 0.95 for label in (1, 2, 3))
    assert voc.average_precision(truth, again, 0.5, method) == wanted
    for a, b in zip(found, again, strict=True):  # grouped by class in the files
        order = np.argsort(a["classes"], kind="stable")
        np.testing.assert_array_equal(np.float32(b["scores"]), a["scores"][order])


def test_scores_rank_as_they_did(tmp_path):
    scores = np.nextafter(np.float32(0.1), np.float32(1), dtype=np.float32)
    scores = np.float32([0.1, scores, 1e-20, 0, 1, 3.4e-6])
    found = [{"boxes": [[0, 0, 9, 9]] * 6, "scores": scores, "classes": [1] * 6}]
    results.write(str(tmp_path), "t", CLASSES, None, ["a"], found)
    lines = (tmp_path / "comp4_det_t_cat.txt").read_text().splitlines()
    assert [np.float32(line.split()[1]) for line in lines] == scores.tolist()
    assert not any("e" in line.split()[1] for line in lines)
    (path,) = results.write(str(tmp_path), "t", CLASSES, IDS, ["1"], found)
    with open(path) as file:
        assert [np.float32(row["score"]) for row in json.load(file)] == scores.tolist()


def test_coco_json_gives_the_same_ap(tmp_path):
    truth, found = make(seed=1)
    image_ids = [100 + 7 * i for i in range(len(found))]
    (path,) = results.write(str(tmp_path), "val2014", CLASSES, IDS, map(str, image_ids), found)
    assert os.path.basename(path) == "detections_val2014_results.json"
    annotations = []
    for image_id, image in zip(image_ids, truth, strict=True):
        for (y1, x1, y2, x2), label in zip(image["boxes"], image["classes"], strict=True):
            width, height = float(x2 - x1), float(y2 - y1)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": IDS[label - 1]}
                | {"bbox": [float(x1), float(y1), width, height], "area": width * height}
                | {"iscrowd": 0}
            )
    data = {
        "images": [{"id": image_id} for image_id in image_ids],
        "categories": [{"id": i, "name": n} for i, n in zip(IDS, CLASSES, strict=True)],
        "annotations": annotations,
    }
    (tmp_path / "instances.json").write_text(json.dumps(data))
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(str(tmp_path / "instances.json"))
        evaluation = COCOeval(reference, reference.loadRes(path), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    plain = [image | {"difficult": np.zeros(len(image["boxes"]), bool)} for image in truth]
    wanted = coco.coco_metrics(plain, found)
    assert 0.1 < wanted["AP50"] < 0.9
    values = [-1 if value is None else value for value in wanted.values()]
    np.testing.assert_allclose(evaluation.stats, values, atol=1e-9)

    with open(path) as file:
        rows = json.load(file)
    assert {row["category_id"] for row in rows} == set(IDS)
    assert all(type(row["image_id"]) is int for row in rows)
    assert len(rows) == sum(len(f["scores"]) for f in found)


def test_nothing_found_is_an_empty_list(tmp_path):
    none = {"boxes": np.zeros((0, 4)), "scores": [], "classes": []}
    for found, ids in (([], []), ([none, none], ["1", "2"])):
        (path,) = results.write(str(tmp_path), "t", CLASSES, IDS, ids, found)
        with open(path) as file:
            assert json.load(file) == []


def test_a_row_of_coco_is_x_y_width_height(tmp_path):
    found = [{"boxes": np.float32([[1.5, 2, 9.1, 4]]), "scores": np.float32([0.7]), "classes": [3]}]
    (path,) = results.write(str(tmp_path), "t", CLASSES, IDS, ["139"], found)
    with open(path) as file:
        assert json.load(file) == [
            {"image_id": 139, "category_id": 90, "bbox": [2, 1.5, 2, 7.6], "score": 0.7}
        ]


def test_lists_of_other_lengths_are_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        results.write(str(tmp_path), "t", CLASSES, None, ["a"], [])
    assert os.listdir(tmp_path) == []


def test_the_folder_is_checked(tmp_path):
    folder = str(tmp_path / "a" / "b")
    results.check_folder(folder, CLASSES, None)
    assert os.path.isdir(folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--write_results: .*file cannot be a folder"):
        results.check_folder(str(tmp_path / "file"), CLASSES, None)
    with pytest.raises(
        InputError, match=r"the class name 'on/off' cannot be a file name.* expected 'on-off'"
    ):
        results.check_folder(folder, ("cat", "on/off"), None)
    results.check_folder(folder, ("cat", "on/off"), (1, 2))  # COCO's file has no class in its name


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_a_folder_that_may_not_be_written_to(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written to"):
        results.check_folder(str(tmp_path), CLASSES, None)
