"""The site: links lead somewhere, every page is in the menu, drawings say what the code says."""

import re

import pytest

import ohem_tf
from docs.scripts import architecture, pages, training_step


@pytest.mark.parametrize("drawing", [architecture, training_step], ids=lambda x: x.__name__)
def test_drawings_are_those_of_the_code(drawing):
    assert drawing.PICTURE.read_text() == drawing.picture(), "run make build-files"
    assert drawing.PAGE.read_text() == drawing.page(), "run make build-files"


def test_the_architecture_knows_every_import(tmp_path, monkeypatch):
    counts = architecture.imports()
    rows = architecture.layers()
    place = {room: i for i, row in enumerate(rows) for room in row}
    # As the contract says, which lint-imports checks by other means.
    assert all(place[room] <= place[other] for room, other in counts)
    assert counts["miner", "hard_mining"] == 1
    assert ("sampler", "config") not in counts
    (tmp_path / "ohem_tf").mkdir()
    code = (
        "from typing import TYPE_CHECKING\nimport ohem_tf.boxes\n"
        "if TYPE_CHECKING:\n    from ohem_tf.models import heads\n"
        "def f():\n    from ohem_tf import losses, nms\n"
    )
    (tmp_path / "ohem_tf/miner.py").write_text(code)
    monkeypatch.setattr(architecture, "ROOT", tmp_path)
    monkeypatch.setattr(architecture, "layers", lambda: [["miner"], ["boxes", "nms", "losses"]])
    monkeypatch.setattr(
        architecture, "modules", lambda room: [tmp_path / "ohem_tf/miner.py"] * (room == "miner")
    )
    assert architecture.imports() == {
        ("miner", "boxes"): 1,
        ("miner", "losses"): 1,
        ("miner", "nms"): 1,
    }


@pytest.mark.parametrize("name", sorted(pages.pages()))
def test_every_link_leads_to_a_file(name):
    pages.links(name, (pages.ROOT / name).read_text())


def test_links_between_folders_become_links_between_pages(tmp_path):
    pages.gather(tmp_path)
    serving = (tmp_path / "serving.md").read_text()
    assert "](gpus.md#exports)" in serving  # ../docs/gpus.md in export/README.md
    peers = (tmp_path / "results/peers.md").read_text()
    assert "](../source/benchmarks/peers/pytorch_step.py.md)" in peers
    line = training_step.steps()[0][0]
    source = "source/ohem_tf/models/fast_rcnn.py.md"
    assert f"]({source}#__codelineno-0-{line})" in (tmp_path / "how.md").read_text()
    assert "# 1. Conv network" in (tmp_path / source).read_text()
    assert (tmp_path / "images/scenes.png").is_file()
    assert not list(tmp_path.rglob("*.intro.md"))


def test_a_link_to_nothing_is_an_error():
    with pytest.raises(FileNotFoundError, match=r"docs/x.md links to nope.md: .*docs/nope.md"):
        pages.links("docs/x.md", "[a](others.md) and [b](nope.md#there)")


def test_the_menu_has_every_page():
    menu = (pages.ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    listed = re.findall(r": (\S+\.md)$", menu, re.MULTILINE)
    assert sorted(listed) == sorted(pages.pages().values())


def test_the_api_page_has_every_public_name():
    text = (pages.ROOT / "docs/api.md").read_text()
    # `train` is the name of a module as well, and the page shows the function of it.
    names = re.findall(r"^::: ohem_tf\.(?:train\.)?(\w+)$", text, re.MULTILINE)
    assert sorted(names) == ohem_tf.__all__
