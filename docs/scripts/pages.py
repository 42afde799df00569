"""Gathers the pages of the site, which lie in several folders, in one.

    python -m docs.scripts.pages build/pages

README.md is the home page, and other pages outside docs/ have an address too (`PAGES`). Links stay
as they are read in the repository: one that leads to a file outside docs/ leads on the site to a
page with the source of that file, and `#L10` to its line. A link to what is not there is an error.
"""

from __future__ import annotations

import pathlib
import posixpath
import re
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# File of the repository -> its page, where that is not what follows docs/.
PAGES = {
    "README.md": "index.md",
    "export/README.md": "serving.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
_COPIED = (".md", ".png", ".svg", ".json", ".ipynb")
# What follows ]( in Markdown, but addresses and anchors of the same page.
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|<)([^)\s#]+)(#[^)\s]*)?(?=\))")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".ipynb": "json", "": "text"}


def pages() -> dict[str, str]:
    """Every page that somebody wrote: file of the repository -> its address on the site."""
    names = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")]
    # FILE.intro.md is part of FILE.md.
    own = {name: name.removeprefix("docs/") for name in names if not name.endswith(".intro.md")}
    return PAGES | own


def links(name: str, text: str) -> dict[str, str]:
    """Where the links of a page lead to: as they stand there -> file of the repository.

    Raises:
      FileNotFoundError: there is no such file.
    """
    found = {}
    for link, _ in _LINK.findall(text):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
        if not (ROOT / target).is_file():
            raise FileNotFoundError(f"{name} links to {link}: there is no file {target}")
        found[link] = target
    return found


def gather(output: pathlib.Path) -> None:
    """Writes the pages, the pictures and the sources that they link to into a fresh folder."""
    shutil.rmtree(output, ignore_errors=True)
    sources = set()
    for name, page in pages().items():
        text = (ROOT / name).read_text("utf-8")
        targets = links(name, text)
        sources |= {target for target in targets.values() if not _has_address(target)}
        _write(output / page, _LINK.sub(lambda match: _rewritten(match, targets, page), text))  # noqa: B023
    for name in sources:
        _write(output / _address(name), _source(name))
    for path in (ROOT / "docs").rglob("*"):
        if path.suffix in _COPIED and path.suffix != ".md":
            target = output / path.relative_to(ROOT / "docs")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _has_address(name: str) -> bool:
    in_docs = name.startswith("docs/") and pathlib.PurePath(name).suffix in _COPIED
    return name in PAGES or in_docs


def _address(name: str) -> str:
    """The page of a file of the repository."""
    if _has_address(name):
        return PAGES.get(name) or name.removeprefix("docs/")
    return f"source/{name}.md"


def _rewritten(match: re.Match[str], targets: dict[str, str], page: str) -> str:
    link, anchor = match.groups(default="")
    # How Pygments, in the site, names a line of the first block of a page.
    anchor = re.sub(r"^#L(\d+)$", r"#__codelineno-0-\1", anchor)
    return posixpath.relpath(_address(targets[link]), posixpath.dirname(page) or ".") + anchor


def _source(name: str) -> str:
    path = ROOT / name
    language, text = _LANGUAGES.get(path.suffix, "text"), path.read_text("utf-8").rstrip("\n")
    return f'# {name}\n\n~~~~~~ {{ .{language} linenums="1" }}\n{text}\n~~~~~~\n'


def _write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    gather(pathlib.Path(sys.argv[1]))
