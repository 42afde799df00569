"""What the algorithms take as an Array: a tensor, in a graph or not, or a numpy array."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import tensorflow as tf

Array: TypeAlias = tf.Tensor | np.ndarray
