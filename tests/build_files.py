"""The BUILD files that the code asks for: each .py file in one target, its deps the imports.

`make build-files` runs this file, which rewrites every BUILD file from the imports;
build_files_test.py fails while one differs from what this would write.
"""

import ast
import pathlib
import re
import sys
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("ohem_tf", "configs", "export", "benchmarks", "examples", "docs", "tests")
# Imported name -> package on PyPI, where they differ.
PYPI = {
    "absl": "absl-py",
    "cv2": "opencv-contrib-python-headless",
    "google": "protobuf",
    "grpc": "grpcio",
    "markdown_it": "markdown-it-py",
    "PIL": "Pillow",
    "skimage": "scikit-image",
    "tensorflow_serving": "tensorflow-serving-api",
    "yaml": "PyYAML",
}
# What benchmarks/peers imports: its files run under another Python, which has these.
NOT_OURS = {"torch", "torchvision"}
# The file that defines a rule.
RULES = {
    "py_binary": "@rules_python//python:defs.bzl",
    "py_library": "@rules_python//python:defs.bzl",
    "py_test": "//tests:py_test.bzl",
}
NEW_FILE = 'package(default_visibility = ["//visibility:public"])'


class Target(NamedTuple):
    """A Python rule: `data` are files beside it that it reads, `deps` absolute labels."""

    rule: str
    name: str
    source: str
    data: list[str]
    deps: set[str]


def python_files():
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def folders():
    """The folders with Python files, relative to the root."""
    return sorted({path.parent.relative_to(ROOT).as_posix() for path in python_files()})


def normalized(package):
    return re.sub(r"[-_.]+", "_", package).lower()


def label(path):
    """The target of a file: its stem, or for __init__.py its folder's name."""
    folder = path.parent.relative_to(ROOT).as_posix()
    is_package = path.stem in ("__init__", path.parent.name)
    return f"//{folder}" if is_package else f"//{folder}:{path.stem}"


def module_file(name):
    """The file of a module of this project, or None."""
    parts = name.split(".")
    # What tests share stands in tests/ and is imported without that name (pytest's pythonpath).
    path = ROOT.joinpath(*parts) if parts[0] in FOLDERS else ROOT.joinpath("tests", *parts)
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _nodes(node, of_types):
    """All that runs of a syntax tree; and if TYPE_CHECKING: too, where `of_types`."""
    yield node
    is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    if not is_for_types or of_types:
        for child in ast.iter_child_nodes(node):
            yield from _nodes(child, of_types)


def imported_names(path):
    """Every module that a file imports anywhere, lazy imports included, as dotted names."""
    # What a package imports for types, it imports at the first use.
    for node in _nodes(ast.parse(path.read_text(), str(path)), path.name == "__init__.py"):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import; this project uses absolute ones"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if module_file(inner) else node.module


def deps(path):
    """The labels of what a file imports."""
    found = set()
    for name in imported_names(path):
        top = name.split(".")[0]
        file = module_file(name)
        if file:
            found.add(label(file))
        elif top in FOLDERS:
            # A folder without __init__.py has nothing to depend on.
            is_folder = (ROOT / name.replace(".", "/")).is_dir()
            assert is_folder, f"{path.relative_to(ROOT)} imports {name}, which is not there"
        elif top not in NOT_OURS | sys.stdlib_module_names:
            found.add(f"@pypi//{normalized(PYPI.get(top, top))}")
    return found - {label(path)}


def data(path):
    """The files beside a file that it reads through Path(__file__).with_name."""
    names = re.findall(r'\(__file__\)\.with_name\("([^"]+)"\)', path.read_text())
    return sorted(set(names))


def rule(path):
    if path.name.endswith("_test.py"):
        return "py_test"
    runs = '\nif __name__ == "__main__":\n' in path.read_text()
    return "py_binary" if runs else "py_library"


def target(path):
    name = path.parent.name if path.name == "__init__.py" else path.stem
    return Target(rule(path), name, path.name, data(path), deps(path))


def _list(field, values):
    if len(values) < 2:
        return [f'    {field} = ["{value}"],' for value in values]
    return [f"    {field} = [", *(f'        "{value}",' for value in values), "    ],"]


def target_text(target, folder):
    own = f"//{folder}"

    def short(dep):
        if dep == own:
            return f":{folder.split('/')[-1]}"
        return dep.removeprefix(own) if dep.startswith(f"{own}:") else dep

    # Buildifier's order: own targets, other targets, other repositories.
    ranked = sorted(map(short, target.deps), key=lambda d: (":/@".index(d[0]), d.replace(":", "!")))
    fields = [*_list("srcs", [target.source]), *_list("data", target.data), *_list("deps", ranked)]
    return "\n".join([f"{target.rule}(", f'    name = "{target.name}",', *fields, ")"])


def _kept(text):
    """The statements of a BUILD file that no import asks for, such as package()."""
    for node in ast.parse(text).body:
        function = node.value.func.id
        if function != "load" and function not in RULES:
            yield ast.get_source_segment(text, node)


def build_text(folder):
    """What a folder's BUILD file should hold."""
    build = ROOT / folder / "BUILD"
    paths = [path for path in python_files() if path.parent == ROOT / folder]
    # The package itself stands first.
    targets = sorted(map(target, paths), key=lambda t: (t.source != "__init__.py", t.name))
    loads = {}
    for name in sorted({target.rule for target in targets}):
        loads.setdefault(RULES[name], []).append(f'"{name}"')
    head = [f'load("{file}", {", ".join(names)})' for file, names in loads.items()]
    kept = _kept(build.read_text()) if build.exists() else [NEW_FILE]
    texts = ["\n".join(head), *kept, *(target_text(target, folder) for target in targets)]
    return "\n\n".join(texts) + "\n"


if __name__ == "__main__":
    for changed in folders():
        file, wanted = ROOT / changed / "BUILD", build_text(changed)
        if not file.exists() or file.read_text() != wanted:
            file.write_text(wanted)
            print(f"wrote {file.relative_to(ROOT)}")
