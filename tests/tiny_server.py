"""Servers on loopback that speak TensorFlow Serving's protocols and run a SavedModel in Python."""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import threading

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

MODEL = "ohem_tf"


class Backend:
    """What both servers run.

    Attributes:
      calls: the signatures that were called.
      failures: this many calls from now on fail as those of a server that is not ready.
      delay: a call waits for this event, if there is one.
    """

    def __init__(self, loaded):
        self._loaded, self._lock = loaded, threading.Lock()
        self.calls, self.failures, self.delay = [], 0, None

    def run(self, signature, inputs):
        with self._lock:
            self.calls.append(signature)
            self.failures -= 1
            if self.failures >= 0:
                raise ConnectionError("not ready")
        if self.delay is not None:
            self.delay.wait(20)
        function = self._loaded.signatures[signature]
        specs = function.structured_input_signature[1]
        tensors = {name: tf.constant(x, specs[name].dtype) for name, x in inputs.items()}
        return {name: x.numpy() for name, x in function(**tensors).items()}


class _Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, backend):
        self._backend = backend

    def Predict(self, request, context):
        if request.model_spec.name != MODEL:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model_spec.name}")
        try:
            inputs = {name: tf.make_ndarray(x) for name, x in request.inputs.items()}
            outputs = self._backend.run(request.model_spec.signature_name, inputs)
        except ConnectionError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except tf.errors.InvalidArgumentError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        answer = predict_pb2.PredictResponse()
        for name, value in outputs.items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return answer


@contextlib.contextmanager
def grpc_server(backend):
    """Yields the address of a PredictionService."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Service(backend), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None)


def _decoded(value):
    """A json value as an array of what the server's json_tensor.cc makes of it."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return np.array([base64.b64decode(item["b64"], validate=True) for item in value], object)
    return np.array(value)


class _Handler(http.server.BaseHTTPRequestHandler):
    backend = None
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != f"/v1/models/{MODEL}:predict":
            return self._answer(404, {"error": f"no servable for {self.path}"})
        try:
            inputs = {name: _decoded(value) for name, value in body["inputs"].items()}
            outputs = self.backend.run(body["signature_name"], inputs)
        except ConnectionError as error:
            return self._answer(503, {"error": str(error)})
        except tf.errors.InvalidArgumentError as error:
            return self._answer(400, {"error": str(error)})
        lists = {
            name: [x.decode() for x in value] if value.dtype == object else value.tolist()
            for name, value in outputs.items()
        }
        if len(lists) == 1:  # the name of an only output is left out
            (lists,) = lists.values()
        return self._answer(200, {"outputs": lists})

    def _answer(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def rest_server(backend):
    """Yields the address of a REST server."""
    handler = type("Handler", (_Handler,), {"backend": backend})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
