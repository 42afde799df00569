"""Seeds of random ops, which come from other seeds."""

from __future__ import annotations

import tensorflow as tf


def fold_in(seed: tf.Tensor, data: tf.Tensor | int) -> tf.Tensor:
    """[2] int32 seed from another, `seed` [2], and a number: as `tf.random.fold_in`.

    On the host, from where random ops take their seeds: on a GPU, the host would wait for each.
    """
    with tf.device("CPU:0"):
        return tf.random.fold_in(seed, data)
