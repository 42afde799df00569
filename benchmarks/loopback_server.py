"""Servers on loopback that speak TensorFlow Serving's protocols and run a SavedModel in Python.

    python -m benchmarks.loopback_server --saved_model=runs/quickstart/export/1

For tests and soaks on machines without TensorFlow Serving. The binary prints one line of json,
{"grpc": ADDRESS, "rest": ADDRESS}, and serves until its standard input ends.
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import http.server
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from absl import flags
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from export import MODEL_NAME
from ohem_tf.errors import InputError, run


class Backend:
    """What both servers run.

    Attributes:
      calls: the signatures that were called.
      failures: this many calls from now on fail as those of a server that is not ready.
      delay: a call waits for this event, if there is one.
    """

    def __init__(self, loaded: Any) -> None:
        """Of a SavedModel that export.saved_model wrote, loaded."""
        self._loaded, self._lock = loaded, threading.Lock()
        self.calls: list[str] = []
        self.failures = 0
        self.delay: threading.Event | None = None

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of a signature.

        Raises:
          ConnectionError: the server is not ready.
          ValueError: another signature, or other inputs than it has.
          tf.errors.InvalidArgumentError: the model refuses the inputs.
        """
        with self._lock:
            self.calls.append(signature)
            self.failures -= 1
            if self.failures >= 0:
                raise ConnectionError("not ready")
        if self.delay is not None:
            self.delay.wait(20)
        function = self._loaded.signatures.get(signature)
        if function is None:
            raise ValueError(f"no signature {signature!r}")
        specs = function.structured_input_signature[1]
        if set(inputs) != set(specs):
            raise ValueError(f"inputs {sorted(inputs)}; {signature} has {sorted(specs)}")
        tensors = {name: tf.constant(x, specs[name].dtype) for name, x in inputs.items()}
        return {name: x.numpy() for name, x in function(**tensors).items()}


class _Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        if request.model_spec.name != MODEL_NAME:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model_spec.name}")
        try:
            inputs = {name: tf.make_ndarray(x) for name, x in request.inputs.items()}
            outputs = self._backend.run(request.model_spec.signature_name, inputs)
        except ConnectionError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        answer = predict_pb2.PredictResponse()
        for name, value in outputs.items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return answer


@contextlib.contextmanager
def grpc_server(backend: Backend, threads: int = 4) -> Iterator[str]:
    """Yields the address of a PredictionService that answers `threads` requests at a time."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(threads))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Service(backend), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None)


def _decoded(value: Any) -> np.ndarray:
    """A json value as an array of what the server's json_tensor.cc makes of it."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return np.array([base64.b64decode(item["b64"], validate=True) for item in value], object)
    return np.array(value)


class _Handler(http.server.BaseHTTPRequestHandler):
    backend: Backend
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != f"/v1/models/{MODEL_NAME}:predict":
            return self._answer(404, {"error": f"no servable for {self.path}"})
        try:
            inputs = {name: _decoded(value) for name, value in body["inputs"].items()}
            outputs = self.backend.run(body["signature_name"], inputs)
        except ConnectionError as error:
            return self._answer(503, {"error": str(error)})
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
            return self._answer(400, {"error": str(error)})
        lists = {
            name: [x.decode() for x in value] if value.dtype == object else value.tolist()
            for name, value in outputs.items()
        }
        if len(lists) == 1:  # the name of an only output is left out
            (lists,) = lists.values()
        return self._answer(200, {"outputs": lists})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """As the base, but that a client which no longer waits for its answer is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def rest_server(backend: Backend) -> Iterator[str]:
    """Yields the address of a REST server."""
    handler = type("Handler", (_Handler,), {"backend": backend})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main(_: list[str]) -> None:
    """Entry point of the binary."""
    folder = flags.FLAGS.saved_model
    if folder is None:
        raise InputError("give --saved_model=EXPORT_DIR/VERSION")
    try:
        backend = Backend(tf.saved_model.load(folder))
    except OSError as error:
        raise InputError(f"--saved_model: {error}") from error
    with grpc_server(backend, flags.FLAGS.threads) as by_grpc, rest_server(backend) as by_rest:
        print(json.dumps({"grpc": by_grpc, "rest": by_rest}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    flags.DEFINE_string("saved_model", None, "EXPORT_DIR/VERSION.")
    flags.DEFINE_integer("threads", 8, "gRPC requests at a time.", lower_bound=1)
    run(main)
