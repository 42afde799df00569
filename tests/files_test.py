"""Files appear whole under their name, and an error leaves no trace."""

import errno
import fcntl
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap

import disk
import pytest

from ohem_tf import files
from ohem_tf.errors import InputError, WriteError
from ohem_tf.files import atomic, make_folder, owned, write_json

ROOT = pathlib.Path(__file__).resolve().parents[1]


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


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"mAP": 0.5})
    words = r"metrics\.json cannot be written: File too large$"
    with disk.full_at(100), pytest.raises(WriteError, match=words):
        write_json(path, {"AP": [0.5] * 100})
    assert names(tmp_path) == ["metrics.json"]
    assert json.loads(path.read_text()) == {"mAP": 0.5}


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"file/a\.json cannot be written: Not a directory"):
        write_json(tmp_path / "file" / "a.json", {})
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(WriteError, match="folder cannot be written: Is a directory"):
        write_json(tmp_path / "folder", {})


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES])
def test_an_error_of_something_else_stays_what_it_is(tmp_path, number):
    error = OSError(number, os.strerror(number), "an image")
    with pytest.raises(OSError, match="an image"), atomic(tmp_path / "a"):
        raise error


def python(code, *arguments):
    """A process of its own, which has printed a line."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    return process


KILLED = """
    import os, resource, signal, sys
    from ohem_tf.files import write_json

    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    print()
    write_json(sys.argv[1], {"AP": [0.5] * 100})
"""


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"mAP": 0.5})
    with python(KILLED, path) as process:
        assert process.wait() == -signal.SIGXFSZ
    assert (tmp_path / "new+metrics.json").stat().st_size == 100
    assert json.loads(path.read_text()) == {"mAP": 0.5}
    write_json(path, {"mAP": 0.6})
    assert names(tmp_path) == ["metrics.json"]


OWNER = """
    import sys
    from ohem_tf.files import owned

    with owned(sys.argv[1], "workdir"):
        print(flush=True)
        input()
"""


@pytest.mark.parametrize("end", ["well", "killed"])
def test_a_folder_has_one_owner_while_that_lives(tmp_path, monkeypatch, end):
    monkeypatch.setattr(files, "_PATIENCE_SECONDS", 0.0)
    with python(OWNER, tmp_path) as process:
        words = rf"--workdir: {tmp_path} is in use by process {process.pid} on .+; wait until"
        with pytest.raises(InputError, match=words), owned(str(tmp_path), "workdir"):
            pass
        if end == "killed":
            process.kill()
        else:
            process.communicate("\n")
        process.wait()
    assert names(tmp_path) == ([".lock"] if end == "killed" else [])
    for _ in range(2):
        with owned(str(tmp_path), "workdir"):
            assert re.match(rf"process {os.getpid()} on ", (tmp_path / ".lock").read_text())
        assert names(tmp_path) == []


def test_an_owner_that_ends_soon_is_waited_for(tmp_path):
    with python(OWNER, tmp_path) as process:
        process.stdin.write("\n")
        process.stdin.flush()
        with owned(str(tmp_path), "workdir"):
            process.wait()


def test_two_in_one_process_are_two(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PATIENCE_SECONDS", 0.0)
    with owned(str(tmp_path), "output"):
        words = r"--output: .* is in use"
        with pytest.raises(InputError, match=words), owned(str(tmp_path), "output"):
            pass
        assert (tmp_path / ".lock").exists()


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with owned(str(tmp_path), "output"):
        pass
    assert "no lock (No locks available): let no second process" in capsys.readouterr().out
