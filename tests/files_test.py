"""Files appear whole under their name, and an error leaves no trace."""

import json

import pytest

from ohem_tf.errors import InputError
from ohem_tf.files import atomic, make_folder, write_json


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path, kind):
    path = tmp_path / "a.weights.h5"
    path.write_text("old")
    (tmp_path / "new+a.weights.h5").write_text("of a process that was killed, and longer")
    with atomic(kind(path)) as temporary:
        assert temporary.startswith(str(tmp_path))
        assert temporary.endswith(".weights.h5")  # Keras chooses the format by it
        with open(temporary, "w") as file:
            file.write("new")
            file.flush()
            assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.weights.h5"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, "old"])
@pytest.mark.parametrize("written", [True, False])
def test_an_error_leaves_everything_as_it_was(tmp_path, error, old, written):
    path = tmp_path / "a"
    if old:
        path.write_text(old)

    def fail():
        with atomic(path) as temporary:
            if written:
                with open(temporary, "w") as file:
                    file.write("half")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == (["a"] if old else [])
    assert not old or path.read_text() == old


def test_a_name_without_a_folder_is_of_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json("a.json", [1])
    assert names(tmp_path) == ["a.json"]


def test_a_writer_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "a"):
        pass


def test_json_is_indented_and_finite(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": [1, None]})
    assert path.read_bytes() == b'{\n "x": [\n  1,\n  null\n ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert json.loads(path.read_text()) == {"x": [1, None]}


@pytest.mark.parametrize("below", ["", "/below"])
def test_a_folder_that_cannot_be(tmp_path, below):
    make_folder(f"{tmp_path}/a/b", "output")
    make_folder(f"{tmp_path}/a/b", "output")  # it may be there
    assert (tmp_path / "a/b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=rf"--output: .*file{below} cannot be a folder: "):
        make_folder(f"{tmp_path}/file{below}", "output")
