"""Bazel takes the BUILD files, and runs tests with what they name as dependencies alone."""

import bazel
import pytest

# One for each kind of dependency; `python tests/bazel.py test //...` runs all.
TESTS = ["//tests:names_test", "//tests:boxes_test", "//tests/data:voc_test"]


@pytest.mark.slow
@pytest.mark.skipif(bool(bazel.missing()), reason=bazel.missing() or "never")
def test_bazel_builds_all_and_tests_some(tmp_path):
    built = bazel.run(tmp_path, "build", "//...")
    assert built.returncode == 0, built.stdout
    tested = bazel.run(tmp_path, "test", *TESTS)
    assert tested.returncode == 0, tested.stdout
    for name in TESTS:
        assert any(x.startswith(name) and "PASSED" in x for x in tested.stdout.splitlines())
