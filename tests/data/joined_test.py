"""Splits as a config names them: one or several, read as one, and every bad expression."""

import json

import pytest
import tiny

from ohem_tf.data import records
from ohem_tf.data.joined import check_classes, open_split, split_expression, split_name
from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError

FIELD = "config.data.train_split"


def members(*numbers):
    return [tiny.make_record(n, 40, 48, objects=1) for n in numbers]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder, itself no data set, with three data sets and a folder that is none."""
    root = tmp_path_factory.mktemp("records")
    for name in ("voc07", "voc12", "other", "notes"):
        (root / name).mkdir()
    tiny.write_dataset(root / "voc07", {"trainval": members(1, 2, 3), "test": members(4)})
    tiny.write_dataset(root / "voc12", {"trainval": members(11, 12), "val": members(3, 14)})
    tiny.write_dataset(root / "other", {"trainval": members(7)}, classes=("disc", "bar", "square"))
    return root


def ids(reader):
    return [records.from_example(item).image_id for item in reader]


def test_a_plain_split_is_one_of_the_folder_itself(folder):
    reader = open_split(folder / "voc07", "trainval", FIELD)
    assert list(reader) == list(RecordReader(folder / "voc07", "trainval"))
    assert list(reader.image_ids) == ids(reader) == ["000001", "000002", "000003"]
    assert (reader.split, reader.annotated) == ("trainval", True)


def test_parts_are_read_one_after_the_other(folder):
    reader = open_split(folder, "voc12/trainval + voc07/trainval+voc07/test", FIELD)
    assert ids(reader) == [f"{n:06d}" for n in (11, 12, 1, 2, 3, 4)]
    assert list(reader.image_ids) == ids(reader)
    assert len(reader) == 6
    assert reader[5] == RecordReader(folder / "voc07", "test")[0]
    with pytest.raises(IndexError):
        reader[6]
    assert reader.classes == tiny.CLASSES
    assert (reader.category_ids, reader.annotated) == (None, True)
    assert reader.split == "trainval+test"


def test_a_folder_may_be_a_data_set_and_hold_others(tmp_path):
    tiny.write_dataset(tmp_path, {"train": members(1)})
    (tmp_path / "more").mkdir()
    tiny.write_dataset(tmp_path / "more", {"train": members(2)})
    assert ids(open_split(tmp_path, "train+more/train", FIELD)) == ["000001", "000002"]
    with pytest.raises(InputError, match=r"splits prepared there: train, more/train$"):
        open_split(tmp_path, "val", FIELD)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("voc07/trainval[:67%]", (1, 2)),
        ("voc07/trainval[67%:]", (3,)),
        ("voc07/trainval[:]", (1, 2, 3)),
        ("voc07/trainval[1:2]+voc12/trainval[1:]", (2, 12)),
        ("voc07/trainval[2:]+voc07/trainval[:1]", (3, 1)),
    ],
)
def test_a_part_of_a_split(folder, expression, expected):
    reader = open_split(folder, expression, FIELD)
    assert ids(reader) == list(reader.image_ids) == [f"{n:06d}" for n in expected]
    assert len(reader) == len(expected)
    with pytest.raises(IndexError):
        reader[len(expected)]


def test_an_epoch_is_a_permutation_of_all_parts(folder):
    reader = open_split(folder, "voc07/trainval+voc12/trainval", FIELD)
    stream = TrainingStream(reader, 1, 3, (40,), 48, "double")
    size = 10
    for epoch in range(3):
        steps = range(epoch * size, (epoch + 1) * size)
        drawn = sorted(stream.image_ids(step)[0] for step in steps)
        assert drawn == sorted(ids(reader) * 2)
        assert len({stream.choice(step)[:2] for step in steps}) == size
    for step, batch in enumerate(stream.dataset(2).take(4).as_numpy_iterator(), 2):
        record = records.from_example(reader[stream.choice(step).record])
        assert batch["gt_classes"].tolist() == [record.classes.tolist()]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "'' names no split"),
        ("voc07/trainval+", "'' names no split"),
        ("+voc07/trainval", "'' names no split"),
        ("voc07/", "'voc07/' names no split"),
        ("/trainval", "'/trainval' names no split"),
        ("/tmp/voc07/trainval", "'/tmp/voc07/trainval' names no split"),
        ("a/b/trainval", "'a/b/trainval' names no split"),
        ("voc07/test+voc07/test", "voc07/test stands there twice"),
        ("voc7/trainval", "there is no split voc7/trainval in"),
        ("notes/trainval", "there is no split notes/trainval in"),
        ("voc07/trainvall", "there is no split voc07/trainvall in"),
        ("trainval", "there is no split trainval in"),
        ("voc07/trainval[:90%", "'voc07/trainval[:90%' names no split"),
        ("voc07/trainval[2]", "'voc07/trainval[2]' names no split"),
        ("voc07/trainval[2:2]", "voc07/trainval[2:2] is from image 2 to 2 of 3"),
        ("voc07/trainval[:4]", "voc07/trainval[:4] is from image 0 to 4 of 3"),
        ("voc07/trainval[:2]+voc07/trainval[1:]", "image 000002 stands in voc07/trainval[:2] and"),
        ("voc07/trainval+trainval", "there is no split trainval in"),
        ("voc07/test+other/trainval", "other/trainval: class 2 is 'bar' there, but 'square' in"),
        ("voc07/trainval+voc12/val", "image 000003 stands in voc07/trainval and in voc12/val"),
    ],
)
def test_bad_expressions_name_the_field(folder, expression, message):
    with pytest.raises(InputError) as caught:
        open_split(folder, expression, FIELD)
    assert str(caught.value).startswith(f"{FIELD} is {expression!r}: {message}")
    assert "\n" not in str(caught.value)
    if message.startswith("there is no"):
        wanted = "other/trainval, voc07/test, voc07/trainval, voc12/trainval, voc12/val"
        assert str(caught.value).endswith(f"splits prepared there: {wanted}")


def test_one_split_by_two_names_is_found_by_its_images(folder):
    with pytest.raises(InputError, match=r"image 000004 stands in test and in \./test"):
        open_split(folder / "voc07", "test+./test", FIELD)


@pytest.mark.parametrize("directory", ["", "none", "notes", "voc07/dataset.json"])
def test_a_folder_without_data_sets(folder, directory):
    place = directory and folder / directory
    with pytest.raises(InputError, match=r"^config\.data\.dir is .*ohem_tf\.prepare"):
        open_split(place, "trainval", FIELD)


def test_a_damaged_data_set_is_named_where_it_is_asked_for(tmp_path):
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    tiny.write_dataset(tmp_path / "good", {"train": members(1)})
    (tmp_path / "bad" / "dataset.json").write_text("{")
    with pytest.raises(InputError, match=r"bad/dataset\.json: not valid json"):
        open_split(tmp_path, "bad/train", FIELD)
    with pytest.raises(InputError, match=r"splits prepared there: good/train$"):
        open_split(tmp_path, "good/val", FIELD)


def test_a_split_without_annotations_is_refused_unless_allowed(tmp_path):
    tiny.write_dataset(tmp_path, {"test": members(1)}, annotated=False)
    with pytest.raises(InputError, match=r"--split=test --write_results=DIR") as caught:
        open_split(tmp_path, "test", "config.data.eval_split")
    assert str(caught.value).startswith("config.data.eval_split is 'test': test was prepared")
    assert not open_split(tmp_path, "test", FIELD, annotated=False).annotated


def test_category_ids_are_kept_where_all_parts_agree(tmp_path):
    for number, (name, ids_) in enumerate({"a": (3, 7, 9), "b": (3, 7, 9), "c": (1, 2, 3)}.items()):
        (tmp_path / name).mkdir()
        tiny.write_dataset(tmp_path / name, {"t": members(number)}, category_ids=ids_)
    assert open_split(tmp_path, "a/t+b/t", FIELD).category_ids == (3, 7, 9)
    assert open_split(tmp_path, "a/t+c/t", FIELD).category_ids is None


def test_a_data_set_from_before_there_were_image_ids(tmp_path):
    for number, name in enumerate(("old", "new")):
        (tmp_path / name).mkdir()
        tiny.write_dataset(tmp_path / name, {"t": members(number)})
    path = tmp_path / "old" / "dataset.json"
    info = json.loads(path.read_text())
    del info["splits"]["t"]["image_ids"], info["splits"]["t"]["annotated"]
    path.write_text(json.dumps(info))
    assert open_split(tmp_path, "old/t", FIELD).annotated
    with pytest.raises(InputError, match="lists 0 image ids for 1 records; run prepare again"):
        open_split(tmp_path, "new/t+old/t", FIELD)


def test_classes_that_are_missing_are_named():
    check_classes("here", ("a", "b"), "there", ("a", "b"))
    with pytest.raises(InputError, match="here: class 2 is 'b' there, but absent in data"):
        check_classes("here", ("a", "b"), "data", ("a",))
    with pytest.raises(InputError, match="here: class 1 is absent there, but 'a' in data"):
        check_classes("here", (), "data", ("a",))


@pytest.mark.parametrize(
    ("directory", "expression", "name"),
    [
        ("records/voc07", "test", "voc07/test"),
        ("records/voc07/", "trainval+test", "voc07/trainval+voc07/test"),
        ("records", "voc07/trainval + voc12/trainval", "voc07/trainval+voc12/trainval"),
        ("records/voc07", "trainval+voc12/trainval", "voc07/trainval+voc12/trainval"),
    ],
)
def test_splits_are_named_with_their_data_set(directory, expression, name):
    assert split_name(directory, expression) == name


@pytest.mark.parametrize(
    ("directory", "expression"),
    [("voc07", "test"), ("voc07", "trainval[:2]"), (".", "voc07/trainval+voc12/trainval")],
)
def test_the_name_of_a_split_gives_it_again(folder, directory, expression):
    directory = str(folder / directory)
    name = split_name(directory, expression)
    assert split_expression(directory, name) == expression
    open_split(directory, split_expression(directory, name), FIELD)


def test_a_data_set_that_has_moved_keeps_its_splits(folder):
    assert split_expression(str(folder / "voc07"), "before/test") == "test"
