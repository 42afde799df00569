"""What a Bazel py_test runs: pytest on the test files given as arguments."""

import sys

import pytest

# Outside the source tree pytest does not see setup.cfg, nor may it write a cache.
OPTIONS = ["--rootdir=.", "--import-mode=importlib", "-p", "no:cacheprovider"]

if __name__ == "__main__":
    sys.exit(pytest.main([*OPTIONS, *sys.argv[1:]]))
