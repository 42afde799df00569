"""Where the RoIs of an image come from: its record, or a part of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ohem_tf.errors import InputError
from ohem_tf.models.batches import Batch


class Proposer(keras.layers.Layer):
    """Proposes regions of an image from its feature maps; see `models.rpn` for the one of here.

    Attributes:
      needs_proposals: whether the proposals of an image are part of the input instead.
    """

    needs_proposals = False

    def call(self, features: Sequence[tf.Tensor]) -> Any:
        """What is predicted of an image; gradients flow from `losses` through it.

        Args:
          features: [1, h, w, C] float32 for each stride of the backbone.

        Returns:
          Anything; `boxes` and `losses` take it.
        """
        return tuple(features)

    def boxes(self, predicted: Any, size: tf.Tensor, scale: tf.Tensor, training: bool) -> tf.Tensor:
        """The proposals of an image.

        Args:
          predicted: of `call`.
          size: [2] int32 height and width of the resized image.
          scale: [] float32 factor from the original to the resized image.
          training: whether they train the RoI network.

        Returns:
          [R, 4] float32 pixels of the original image.
        """
        raise NotImplementedError(f"{type(self).__name__} has no boxes()")

    def losses(self, predicted: Any, image: Batch, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """What trains it: the losses of an image, each a scalar; they are added to the RoIs'.

        Args:
          predicted: of `call`.
          image: of `batches.unbatch`.
          seed: [2] int32, for random choices.
        """
        return {}


@keras.saving.register_keras_serializable("ohem_tf")
class RecordedProposals(Proposer):
    """The proposals come with each image, computed beforehand."""

    needs_proposals = True

    def call(self, features: Sequence[tf.Tensor]) -> None:
        """Nothing is predicted."""

    def boxes(self, predicted: Any, size: tf.Tensor, scale: tf.Tensor, training: bool) -> tf.Tensor:
        """Raises InputError: there are none."""
        raise InputError("proposals: this model needs them with each image, and has none")
