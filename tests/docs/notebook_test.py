"""The notebook is valid, holds no output, and its cells run in their order on a few scenes.

Not run: what only a notebook has (%pip, %tensorboard, !git clone). Programs run in this process,
with sizes that take seconds and a tiny network in VGG16's place.
"""

import json
import shlex
import sys
import types

import command_line
import pytest

from docs.scripts.pages import ROOT

CELLS = json.loads((ROOT / "docs/notebook.ipynb").read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
SMALL = {
    "ohem_tf.data.scenes": ["--train=4", "--val=2"],
    "ohem_tf.prepare": ["--num_workers=0"],
    "ohem_tf.train": [
        f"--config.{field}"
        for field in (
            *("train.steps=2", "train.decay_steps=()", "train.warmup_steps=0", "head.hidden=(8,)"),
            *("dtype=float32", "data.max_proposals=50"),
        )
    ],
}


def test_it_is_a_notebook_without_outputs():
    notebook = json.loads((ROOT / "docs/notebook.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["language"] == "python"
    ids = [cell["id"] for cell in CELLS]
    assert len(set(ids)) == len(ids)
    for cell in CELLS:
        assert cell["metadata"] == {}
        assert all(isinstance(line, str) for line in cell["source"])
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
        else:
            assert cell["cell_type"] == "markdown"


def run_program(line):
    python, m, module, *arguments = shlex.split(line)
    assert (python, m) == ("python", "-m")
    done = command_line.run(module, *arguments, *SMALL.get(module, []))
    assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_backbone")
def test_its_cells_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    shown = []
    display = types.SimpleNamespace(Image=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    names = {"run_program": run_program}
    for cell in CODE:
        lines = []
        for line in cell.splitlines():
            word = line.strip()
            indent = line[: len(line) - len(word)]
            if word.startswith("!python"):
                lines.append(f"{indent}run_program({word[1:]!r})")
            elif word.startswith(("!git", "%")):
                lines.append(f"{indent}pass")
            else:
                assert not word.startswith("!"), word
                lines.append(line)
        exec("\n".join(lines), names)
    assert shown == ["runs/notebook/found/detections.png"]
    assert (tmp_path / shown[0]).is_file()
    assert (tmp_path / "runs/notebook/model/metrics.json").is_file()
    assert (
        capsys.readouterr().out.splitlines()[-1] == "[1 2]"
    )  # by hand: 0 and 1 have an IoU of 0.9
