"""Requests that the server answers before it takes a version into service (assets.extra/).

The first request of a process compiles and allocates; without these, a user would wait for it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from ohem_tf.errors import InputError

_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")  # the server knows this name
_PROPOSALS = 300


def requests(
    shortest_side: int, longest_side: int, needs_proposals: bool
) -> list[dict[str, np.ndarray]]:
    """A landscape and a portrait of noise with random proposals, as inputs of `serving_default`.

    Args:
      shortest_side, longest_side: of the resized image, pixels.
      needs_proposals: whether the model takes proposals.
    """
    rng = np.random.default_rng(0)
    long = min(longest_side, shortest_side * 4 // 3)
    made = []
    for size in ((shortest_side, long), (long, shortest_side)):
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        corners = np.sort(rng.uniform(0, 1, (_PROPOSALS, 2, 2)), axis=1) * size
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG")
        request = {"image_bytes": np.array([buffer.getvalue()], object)}
        if needs_proposals:
            request["proposals"] = corners.reshape(1, -1, 4).astype(np.float32)
        made.append(request)
    return made


def write(folder: str, inputs: Sequence[dict[str, np.ndarray]], model_name: str) -> None:
    """Writes requests for `serving_default` into a SavedModel.

    Args:
      folder: of the SavedModel.
      inputs: one dict per request.
      model_name: that the request is addressed to.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path = os.path.join(folder, _FILE)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as writer:
        for tensors in inputs:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model_name
            request.model_spec.signature_name = "serving_default"
            for name, value in tensors.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())


def require_serving_api() -> None:
    """Raises InputError if tensorflow-serving-api, which has the server's messages, is missing."""
    try:
        import tensorflow_serving.apis.prediction_log_pb2  # noqa: F401
    except ImportError as error:
        raise InputError(
            "the package tensorflow-serving-api is missing; pip install -e '.[serving]'"
        ) from error
