"""The two ways to a TensorFlow Serving model: gRPC, and REST with json; deadline and retry."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Mapping
from typing import Any, Protocol

import grpc
import numpy as np
import requests
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from ohem_tf.errors import InputError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds
# The channel's own pauses between connections; gRPC's defaults go up to two minutes.
_CHANNEL = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", -1),
)


class Unavailable(Exception):
    """The server is not there, or is too busy: the same request may succeed later."""


class Transport(Protocol):
    """One request to one model.

    Attributes:
      server: where it is, for messages.
    """

    server: str

    def call(
        self, signature: str, inputs: Mapping[str, np.ndarray], timeout: float
    ) -> dict[str, np.ndarray]:
        """The outputs of a signature.

        Raises:
          Unavailable: try again.
          InputError: the request is refused, or there was no answer within `timeout` seconds.
        """
        ...


def connect(server: str, model: str) -> Transport:
    """The way to a server.

    Args:
      server: grpc://HOST:PORT (TensorFlow Serving: 8500), or http://HOST:PORT or https:// (8501).
      model: name under which it is served.

    Raises:
      InputError: another kind of address. Whether there is a server shows at the first call.
    """
    kind, _, address = server.partition("://")
    if kind == "grpc" and address:
        return Grpc(address, model)
    if kind in ("http", "https") and address:
        return Rest(server, model)
    raise InputError(
        f"--server is {server!r}; expected grpc://HOST:8500, http://HOST:8501 or https://HOST"
    )


def call(
    transport: Transport, signature: str, inputs: Mapping[str, np.ndarray], deadline: float
) -> dict[str, np.ndarray]:
    """The outputs of a signature; tries again, less and less often, while the server is not there.

    Args:
      transport: see `connect`.
      signature: its name.
      inputs: {name: array}; strings as arrays of `object`.
      deadline: seconds for all attempts together.

    Raises:
      InputError: the request is refused, or there is no answer in time.
    """
    end, pause = time.monotonic() + deadline, _FIRST_PAUSE
    while True:
        try:
            return transport.call(signature, inputs, max(end - time.monotonic(), 0.001))
        except Unavailable as error:
            pause *= random.uniform(0.75, 1.25)  # clients that failed together come back apart
            if time.monotonic() + pause >= end:
                raise InputError(
                    f"--server: {transport.server} is not available, tried for {deadline:g} s: "
                    f"{error}"
                ) from error
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


class Grpc:
    """The PredictionService, without encryption."""

    def __init__(self, address: str, model: str) -> None:
        self.server, self._model = f"grpc://{address}", model
        channel = grpc.insecure_channel(address, _CHANNEL)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def call(
        self, signature: str, inputs: Mapping[str, np.ndarray], timeout: float
    ) -> dict[str, np.ndarray]:
        """See `Transport.call`."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self._model, signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        try:
            answer = self._stub.Predict(request, timeout=timeout)
        except grpc.RpcError as error:
            reason = _one_line(error.details())
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                raise Unavailable(reason) from error
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise _too_late(self.server) from error
            raise _refused(self.server, reason) from error
        return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}


class Rest:
    """POST /v1/models/MODEL:predict with json: bytes in base64, boxes as lists."""

    def __init__(self, server: str, model: str) -> None:
        self.server = server.rstrip("/")
        self._url = f"{self.server}/v1/models/{model}:predict"
        self._session = requests.Session()

    def call(
        self, signature: str, inputs: Mapping[str, np.ndarray], timeout: float
    ) -> dict[str, np.ndarray]:
        """See `Transport.call`."""
        body: dict[str, Any] = {
            "signature_name": signature,
            "inputs": {name: _json_of(name, value) for name, value in inputs.items()},
        }
        try:
            answer = self._session.post(self._url, json=body, timeout=timeout)
        except requests.Timeout as error:
            raise _too_late(self.server) from error
        except requests.ConnectionError as error:
            raise Unavailable(_one_line(error)) from error
        except requests.RequestException as error:  # an address that is none, a cut answer, ...
            raise InputError(f"--server: {self.server}: {_one_line(error)}") from error
        try:
            content = answer.json()
        except ValueError:
            content = {"error": f"no json: {answer.text[:200]}"}
        if answer.status_code == requests.codes.service_unavailable:
            raise Unavailable(_one_line(content.get("error", answer.reason)))
        if not answer.ok or "outputs" not in content:
            raise _refused(self.server, _one_line(content.get("error", answer.reason)))
        outputs = content["outputs"]
        if not isinstance(outputs, dict):  # the server leaves the name of an only output out
            outputs = {"": outputs}
        return {
            name: np.asarray(value, None if _is_text(value) else np.float32)
            for name, value in outputs.items()
        }


def _json_of(name: str, value: np.ndarray) -> Any:
    if value.dtype != object:
        if not np.all(np.isfinite(value)):
            raise InputError(f"{name}: NaN or infinite, which json has no number for")
        return value.tolist()
    return [{"b64": base64.b64encode(item).decode("ascii")} for item in value]


def _is_text(value: Any) -> bool:
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, str)


def _refused(server: str, reason: str) -> InputError:
    return InputError(f"--server: {server} refuses the request: {reason}")


def _too_late(server: str) -> InputError:
    return InputError(f"--server: {server} gave no answer in time; --deadline may be longer")


def _one_line(message: object) -> str:
    return " ".join(str(message).split())
