"""Which precision layers compute in; their weights are float32 always."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras


def dtype_policy(dtype: str) -> keras.DTypePolicy:
    """Keras' policy to keep weights in float32 and compute in `dtype`."""
    return keras.DTypePolicy("float32" if dtype == "float32" else f"mixed_{dtype}")


@contextlib.contextmanager
def computing_in(dtype: str) -> Iterator[None]:
    """Layers made inside compute in `dtype` (Keras Applications take no dtype of their own)."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype_policy(dtype))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
