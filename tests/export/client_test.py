"""The client against servers that speak TensorFlow Serving's protocols on loopback."""

import contextlib
import io
import json
import shutil
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
import tiny
from PIL import Image

from benchmarks import loopback_server
from export import MODEL_NAME, client, transport
from export.remote import RemoteDetector
from ohem_tf.errors import InputError

RECORDS = [tiny.make_record(i, *size, objects=2) for i, size in enumerate([(96, 128), (80, 60)])]
SERVERS = {"grpc": loopback_server.grpc_server, "rest": loopback_server.rest_server}


@pytest.fixture(scope="module")
def backend(loaded):
    return loopback_server.Backend(loaded)


@pytest.fixture(scope="module", params=SERVERS)
def address(request, backend):
    with SERVERS[request.param](backend) as address:
        yield address


@pytest.fixture
def remote(address):
    return RemoteDetector(address, MODEL_NAME, deadline=20.0)


def local(loaded, record):
    return loaded.signatures["serving_default"](
        image_bytes=tf.constant([record.encoded]), proposals=tf.constant(record.proposals[None])
    )


def test_detections_in_pixels_are_those_of_the_model(remote, loaded):
    found = remote.detect([r.encoded for r in RECORDS], [r.proposals for r in RECORDS])
    assert remote.classes == tiny.CLASSES
    assert len(found) == 2
    for record, detections in zip(RECORDS, found, strict=True):
        wanted = local(loaded, record)
        count = int(wanted["num_detections"][0])
        scale = np.array([record.height, record.width] * 2)
        boxes = wanted["detection_boxes"][0, :count].numpy() * scale
        np.testing.assert_allclose(detections.boxes, boxes, atol=1e-3)
        np.testing.assert_allclose(detections.scores, wanted["detection_scores"][0, :count])
        assert detections.classes.dtype == np.int32
        np.testing.assert_array_equal(detections.classes, wanted["detection_classes"][0, :count])


def test_an_image_without_proposals_has_no_detections(remote):
    boxes = [np.zeros((0, 4)), RECORDS[1].proposals]
    alone = remote.detect([RECORDS[0].encoded], boxes[:1])
    assert len(alone[0].scores) == 0
    both = remote.detect([r.encoded for r in RECORDS], boxes)
    assert [len(x.scores) for x in both] == [0, 20]


def test_tries_again_while_the_server_is_not_ready(remote, backend):
    backend.failures = 3
    before = len(backend.calls)
    assert remote.max_pixels == 50_000
    assert len(backend.calls) - before == 4


def test_gives_up_at_the_deadline(address, backend):
    backend.failures = 10**6
    start = time.monotonic()
    try:
        with pytest.raises(InputError, match=r"is not available, tried for 1 s: .*not ready"):
            RemoteDetector(address, MODEL_NAME, 1.0).metadata("classes")
    finally:
        backend.failures = 0
    assert time.monotonic() - start < 10


def test_a_slow_answer_is_not_waited_for_beyond_the_deadline(address, backend):
    backend.delay = threading.Event()
    try:
        with pytest.raises(InputError, match="gave no answer in time"):
            RemoteDetector(address, MODEL_NAME, 0.5).metadata("classes")
    finally:
        backend.delay.set()
        backend.delay = None


@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_a_server_that_is_not_there(kind):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        server = f"{kind}://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(InputError, match=f"{server} is not available, tried for 0.5 s"):
            RemoteDetector(server, "m", 0.5).metadata("classes")


def test_refusals_are_one_line(address, remote):
    with pytest.raises(InputError, match=r"no model none|no servable"):
        RemoteDetector(address, "none", 5.0).metadata("classes")
    inputs = {"image_bytes": np.array([b"GIF89a"], object), "proposals": np.zeros((1, 1, 4))}
    inputs["proposals"] = inputs["proposals"].astype(np.float32)
    with pytest.raises(InputError, match=r"refuses the request: .*image_bytes: neither") as error:
        transport.call(transport.connect(address, "ohem_tf"), "serving_default", inputs, 5.0)
    assert "\n" not in str(error.value)
    assert remote.max_pixels == 50_000  # the next request


def gif():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "GIF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "boxes", "words"),
    [
        (b"", np.zeros((0, 4)), "image 0: expected a JPEG or PNG"),
        (gif(), np.zeros((0, 4)), "image 0: expected a JPEG or PNG"),
        (RECORDS[0].encoded[:-12], np.zeros((0, 4)), "image 0: truncated or damaged"),
        (tiny.make_record(0, 240, 250, 1).encoded, np.zeros((0, 4)), "240 x 250 pixels; the model"),
        (RECORDS[0].encoded, [[0, 0, np.nan, 5]], "proposals 0: NaN"),
        (RECORDS[0].encoded, [[5, 0, 4, 5]], "proposals 0: a box is inverted"),
        (RECORDS[0].encoded, np.zeros((3, 5)), r"proposals 0: shape \[3, 5\]"),
    ],
)
def test_bad_requests_are_not_sent(remote, backend, data, boxes, words):
    assert remote.max_pixels
    assert remote.needs_proposals
    before = len(backend.calls)
    with pytest.raises(InputError, match=words):
        remote.detect([data], [boxes])
    assert len(backend.calls) == before


def test_an_address_of_another_kind():
    for server in ("localhost:8500", "ftp://x", "grpc://"):
        with pytest.raises(InputError, match="expected grpc://HOST:8500"):
            transport.connect(server, "m")


def test_bench_counts_and_times(remote):
    requests = [(r.encoded, r.proposals) for r in RECORDS]
    measured = client.bench(remote, requests, count=6, concurrency=2)
    assert measured["requests"] == 6
    assert 0 < measured["p50_ms"] <= measured["p95_ms"]
    # No run of n requests, c at a time, is faster than n / c of its fastest.
    assert 0 < measured["images_per_second"] <= 2 * 1000 / measured["p50_ms"] * 6


def run_client(*arguments):
    command = [sys.executable, "-m", "export.client", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_binary_prints_draws_and_measures(backend, tmp_path):
    for i, record in enumerate(RECORDS):
        (tmp_path / f"{i}.png").write_bytes(record.encoded)
    images = f"--images={tmp_path}/*.png"
    with loopback_server.grpc_server(backend) as server:
        done = run_client(f"--server={server}", images, "--min_score=0.2")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert {line.split(":")[0] for line in lines} == {f"{tmp_path}/{i}.png" for i in (0, 1)}
        assert lines[0].split()[1] in tiny.CLASSES
    with loopback_server.rest_server(backend) as server:
        out = tmp_path / "out"
        done = run_client(f"--server={server}", images, f"--output={out}")
        assert done.returncode == 0, done.stderr
        with Image.open(out / "0.png") as drawn:
            assert drawn.size == (128, 96)
        found = json.loads((out / "detections.json").read_text())
        assert [len(x) for x in found.values()] == [20, 20]
        done = run_client(f"--server={server}", images, "--bench", "--requests=4")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["requests"] == 4
    (tmp_path / "2.png").write_bytes(b"hello")
    with loopback_server.grpc_server(backend) as server:
        done = run_client(f"--server={server}", images)
    assert done.returncode == 1
    assert "2.png: not an image" in done.stderr.splitlines()[-1]


@contextlib.contextmanager
def model_server(binary, exported, tmp_path):
    """TensorFlow Serving itself, with the files of export/serving."""
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    root = client.__file__.rsplit("/", 1)[0] + "/serving"
    config = model_server_config_pb2.ModelServerConfig()
    with open(f"{root}/models.config") as file:
        text_format.Parse(file.read(), config)
    config.model_config_list.config[0].base_path = exported.rsplit("/", 1)[0]
    (tmp_path / "models.config").write_text(text_format.MessageToString(config))
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], two.getsockname()[1]
    command = [binary, f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
    command += [f"--model_config_file={tmp_path}/models.config"]
    command += [f"--monitoring_config_file={root}/monitoring.config"]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"grpc://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_the_real_server(exported, loaded, tmp_path):
    binary = shutil.which("tensorflow_model_server")
    if binary is None:
        pytest.skip("tensorflow_model_server is not on the PATH")
    wanted = local(loaded, RECORDS[0])
    with model_server(binary, exported, tmp_path) as servers:
        for server in servers:
            remote = RemoteDetector(server, MODEL_NAME, deadline=60.0)
            (found,) = remote.detect([RECORDS[0].encoded], [RECORDS[0].proposals])
            count = int(wanted["num_detections"][0])
            scores = wanted["detection_scores"][0, :count]
            np.testing.assert_allclose(found.scores, scores, atol=1e-4)
            inputs = {"image_bytes": np.array([b"hello"], object)}
            inputs["proposals"] = np.zeros((1, 1, 4), np.float32)
            with pytest.raises(InputError, match="image_bytes: neither"):
                transport.call(transport.connect(server, "ohem_tf"), "serving_default", inputs, 9)
