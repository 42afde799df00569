"""TF_CONFIG: who takes part, what is wrong with it, and that all workers hold the same things."""

import json

import numpy as np
import pytest
import tensorflow as tf

from ohem_tf.errors import InputError
from ohem_tf.training import workers

TWO = {"worker": ["a:1", "b:2"]}


def set_config(monkeypatch, cluster, kind="worker", index=0):
    value = json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})
    monkeypatch.setenv("TF_CONFIG", value)


@pytest.mark.parametrize(
    ("cluster", "kind", "index", "place"),
    [
        (TWO, "worker", 0, 0),
        (TWO, "worker", 1, 1),
        ({"chief": ["c:3"], **TWO}, "chief", 0, 0),
        ({**TWO, "chief": ["c:3"]}, "worker", 0, 1),
        ({"chief": ["c:3"], **TWO}, "worker", 1, 2),
    ],
)
def test_the_chief_comes_first_as_in_tensorflow(monkeypatch, cluster, kind, index, place):
    from tensorflow.python.distribute import multi_worker_util

    set_config(monkeypatch, cluster, kind, index)
    me = workers.worker()
    assert me == (place, sum(map(len, cluster.values())))
    assert me.place == multi_worker_util.id_in_cluster(cluster, kind, index)
    assert me.is_chief == multi_worker_util.is_chief(cluster, kind, index)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{", "TF_CONFIG: not valid json"),
        ("[]", 'no "worker" in its "cluster"'),
        ({"cluster": {"chief": ["a:1"]}}, 'no "worker"'),
        ({"cluster": {"ps": ["c:3"], **TWO}}, "its cluster has 'ps'"),
        ({"cluster": {"worker": "a:1"}}, "'worker' is 'a:1', not a list"),
        ({"cluster": {"worker": ["a"]}}, "'a' is no address; HOST:PORT"),
        ({"cluster": {"worker": ["a:1", "a:1"]}}, "an address stands in it twice"),
        ({"cluster": {"chief": ["c:3", "d:4"], **TWO}}, "more than one chief"),
        ({"cluster": TWO}, "type None, index None, but the cluster has worker 0, worker 1"),
        ({"cluster": TWO, "task": {"type": "worker", "index": 2}}, "index 2, but the cluster has"),
        ({"cluster": TWO, "task": {"type": "worker", "index": "0"}}, "index '0', but"),
    ],
)
def test_a_bad_cluster_is_refused_with_an_example_of_a_good_one(monkeypatch, value, words):
    monkeypatch.setenv("TF_CONFIG", value if isinstance(value, str) else json.dumps(value))
    with pytest.raises(InputError) as error:
        workers.is_chief("multiworker", None)
    assert words in str(error.value)
    example = str(error.value).split("expected ")[1].split(", the same on each")[0]
    monkeypatch.setenv("TF_CONFIG", example)
    assert workers.worker() == (0, 2)


def test_several_workers_need_tf_config(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(InputError, match=r"--strategy=multiworker: TF_CONFIG is not set; expected"):
        workers.multi_worker_strategy(2)


def test_strategy_devices_and_tf_config_must_go_together(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert workers.is_chief("mirrored", ["CPU:0"])
    set_config(monkeypatch, TWO, index=1)
    assert not workers.is_chief("multiworker", None)
    with pytest.raises(InputError, match=r"TF_CONFIG: it lists 2 workers.*--strategy=multiworker"):
        workers.is_chief("mirrored", None)
    with pytest.raises(InputError, match=r"--devices: .*CUDA_VISIBLE_DEVICES"):
        workers.is_chief("multiworker", ["GPU:0"])
    with pytest.raises(InputError, match="expected one of mirrored, multiworker"):
        workers.is_chief("horovod", None)


class OtherWorkers:
    """A strategy of three workers, of which the others hold `others` [2, values]."""

    def __init__(self, others):
        self.others = others

    def run(self, function):
        return function()

    def gather(self, values, axis):
        self.mine = np.asarray(values)
        return tf.constant(np.concatenate([self.mine, self.others(self.mine)], axis))


def test_workers_that_differ_are_told_in_what():
    values = {"the config": {"seed": 3}, "the step": 4}
    same = OtherWorkers(lambda mine: np.repeat(mine, 2, axis=0))
    tf.config.run_functions_eagerly(True)
    try:
        workers.agree(same, values)
        other = OtherWorkers(lambda mine: np.stack([mine[0], mine[0] + [0, 1]]))
        with pytest.raises(InputError, match=r"differ in the step \(here: 4\).*share"):
            workers.agree(other, values)
        again = OtherWorkers(lambda mine: np.repeat(mine, 2, axis=0))
        workers.agree(again, {"the config": {"seed": 4}, "the step": 4})
    finally:
        tf.config.run_functions_eagerly(False)
    assert same.mine[0, 0] != again.mine[0, 0]  # another config
    assert same.mine[0, 1] == again.mine[0, 1]
