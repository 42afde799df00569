"""py_test for pytest files: run as a plain script such a file would define tests and run none."""

load("@rules_python//python:defs.bzl", _py_test = "py_test")

# What pytest loads beside the file itself.
_ALWAYS = [
    "//tests:conftest",
    "@pypi//pytest",
]

def py_test(name, srcs, deps = [], **kwargs):
    _py_test(
        name = name,
        srcs = srcs + ["//tests:pytest_main.py"],
        main = "//tests:pytest_main.py",
        args = ["$(location %s)" % src for src in srcs],
        deps = deps + [dep for dep in _ALWAYS if dep not in deps],
        **kwargs
    )
