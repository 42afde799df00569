"""benchmarks.soak_serving: every request is judged, and a wrong answer is seen."""

import os

import numpy as np
import pytest
import tiny

from benchmarks import loopback_server, soak_serving
from benchmarks.soak_serving import Outcome, Request
from export import MODEL_NAME, transport

RECORD = tiny.make_record(0, 96, 128, objects=2)
GOOD = Request(
    "x.png",
    {
        "image_bytes": np.array([RECORD.encoded], object),
        "proposals": RECORD.proposals[None],
    },
    "",
)
BAD = soak_serving.bad_requests(GOOD, max_pixels=50_000)


@pytest.fixture(scope="module")
def addresses(loaded):
    backend = loopback_server.Backend(loaded)
    with (
        loopback_server.grpc_server(backend) as by_grpc,
        loopback_server.rest_server(backend) as by_rest,
    ):
        yield by_grpc, by_rest


def test_good_requests_get_the_first_answer_and_bad_ones_a_reason(addresses):
    ways = [transport.connect(address, MODEL_NAME) for address in addresses]
    count = 12 * len(BAD)
    outcomes, memory = soak_serving.soak([GOOD], BAD, ways, os.getpid(), count, 0.75, seed=0)
    result = soak_serving.summary([GOOD], BAD, outcomes)
    assert result["wrong"] == 0, result["shown"]
    assert set(result["rows"]["an image"]) == {"equal"}
    assert [set(result["rows"][x.name]) for x in BAD] == [{"refused"}] * len(BAD)
    assert sum(sum(kinds.values()) for kinds in result["rows"].values()) == count
    assert (memory[0][0], memory[-1][0]) == (0, count)


@pytest.mark.parametrize("way", [0, 1])
def test_what_should_not_be_is_seen(addresses, way):
    way = transport.connect(addresses[way], MODEL_NAME)
    first = transport.call(way, "serving_default", GOOD.inputs, 20.0)
    scores = first["detection_scores"]
    other = first | {"detection_scores": np.nextafter(scores, np.float32(2), dtype=np.float32)}
    assert soak_serving.judge(GOOD, other, way).kind == "different"
    assert soak_serving.judge(GOOD, first, way).kind == "equal"
    assert soak_serving.judge(BAD[0], first, way).kind == "not answered"
    assert soak_serving.judge(GOOD._replace(field="x"), None, way).kind == "accepted"
    no_such_field = BAD[0]._replace(field="proposals")
    assert soak_serving.judge(no_such_field, None, way).kind == "refused for another reason"


def test_the_page_counts_what_went_wrong(tmp_path):
    outcomes = [
        Outcome("x.png", "equal", 0.1, ""),
        Outcome("x.png", "different", 0.1, ""),
        Outcome("no image", "refused", 0.01, "image_bytes"),
    ]
    memory = [[0, 1e9], [1, 2e9], [3, 1.5e9]]
    facts = {"requests": 3, "threads": 8, "images": 1, "minutes": 1.0, "memory": memory}
    result = soak_serving.summary([GOOD], BAD[:1], outcomes) | facts
    text = soak_serving.page(result, "# Title", "x")
    assert "| an image | 2 | 1 | different: 1 |" in text
    assert "| no image | 1 | 1 | 0 |" in text
    soak_serving.draw(str(tmp_path / "x.png"), memory, outcomes)
    assert (tmp_path / "x.png").stat().st_size > 1000
