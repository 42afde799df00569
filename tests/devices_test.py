"""What a process sees of a machine's GPUs, with a TensorFlow that stands in for one with four."""

import os
from types import SimpleNamespace

import pytest
import tensorflow as tf

from ohem_tf import devices
from ohem_tf.errors import InputError
from ohem_tf.training.distribution import strategy_for

CORES = {0, 1, 2, 3, 4, 5, 6, 7}


@pytest.fixture
def machine(monkeypatch):
    """Four GPUs and eight cores; `started` as TensorFlow's rules once it has initialised them."""
    gpus = [f"gpu {i}" for i in range(4)]
    state = SimpleNamespace(gpus=gpus, visible=list(gpus), growing=set(), started=False)

    def set_visible(chosen, kind):
        assert kind == "GPU"
        if state.started and chosen != state.visible:
            raise RuntimeError("Visible devices cannot be modified after being initialized")
        state.visible = list(chosen)

    def set_growth(gpu, enable):
        if state.started and gpu not in state.growing:
            raise RuntimeError("Physical devices cannot be modified after being initialized")
        assert enable
        state.growing.add(gpu)

    physical = tf.config.list_physical_devices
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind: gpus if kind == "GPU" else physical(kind)
    )
    monkeypatch.setattr(tf.config, "set_visible_devices", set_visible)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: list(state.visible))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", set_growth)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: CORES)
    monkeypatch.setenv("TF_CUDNN_USE_AUTOTUNE", "")
    monkeypatch.delenv("TF_CUDNN_USE_AUTOTUNE")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return state


def test_names_are_those_of_tensorflow(machine):
    cpus = [d.name.removeprefix("/device:") for d in tf.config.list_logical_devices("CPU")]
    assert devices.names() == [*cpus, "GPU:0", "GPU:1", "GPU:2", "GPU:3"]


@pytest.mark.parametrize(
    ("chosen", "called"),
    [
        (["GPU:3"], ["GPU:0"]),
        (["GPU:3", "GPU:1"], ["GPU:1", "GPU:0"]),  # TensorFlow keeps the order of the machine
        (["CPU:0"], ["CPU:0"]),
        (["CPU:0", "GPU:2"], ["CPU:0", "GPU:0"]),
        ([], []),
    ],
)
def test_only_the_chosen_are_visible_and_their_memory_grows(machine, chosen, called):
    assert devices.use(chosen) == called
    mine = [f"gpu {i}" for i in range(4) if f"GPU:{i}" in chosen]
    assert machine.visible == mine
    assert machine.growing == set(mine)
    assert os.environ["TF_CUDNN_USE_AUTOTUNE"] == "0"


def test_what_the_user_says_of_autotuning_counts(machine, monkeypatch):
    monkeypatch.setenv("TF_CUDNN_USE_AUTOTUNE", "1")
    devices.use(["GPU:0"])
    assert os.environ["TF_CUDNN_USE_AUTOTUNE"] == "1"


def test_once_tensorflow_has_started_its_devices_stay(machine):
    devices.use(["GPU:1", "GPU:2"])
    machine.started = True
    assert devices.use(["GPU:2", "GPU:1"]) == ["GPU:1", "GPU:0"]
    assert devices.use(["GPU:2"]) == ["GPU:1"]
    assert devices.use(["CPU:0"]) == ["CPU:0"]
    with pytest.raises(InputError, match=r"GPU:0 is out of reach.*started.*with GPU:1, GPU:2"):
        devices.use(["GPU:0"])
    devices.use_one()  # whichever
    assert machine.visible == ["gpu 1", "gpu 2"]


def test_training_takes_the_gpus_that_share_the_images_evenly(machine, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda *args, **_: made.append(args[0]))
    strategy_for(None, images_per_step=6)
    assert made == [["GPU:0", "GPU:1", "GPU:2"]]
    assert machine.visible == ["gpu 0", "gpu 1", "gpu 2"]
    strategy_for(["GPU:2", "GPU:3"], images_per_step=2)
    assert made[1:] == [["GPU:0", "GPU:1"]]
    assert machine.visible == ["gpu 2", "gpu 3"]
    with pytest.raises(InputError, match=r"no GPU:4 here; there are CPU:0.*GPU:3"):
        strategy_for(["GPU:4"], images_per_step=2)
    capsys.readouterr()


def test_jobs_share_cores_and_gpus(machine, monkeypatch):
    assert devices.shares(3) == [((0, 1), "0"), ((2, 3, 4), "1"), ((5, 6, 7), "2")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-abc,6,7")
    assert [share.environment for share in devices.shares(2)] == [
        {"CUDA_VISIBLE_DEVICES": "4"},
        {"CUDA_VISIBLE_DEVICES": "GPU-abc"},
    ]
    with pytest.raises(InputError, match="--jobs is 5; it must be at most 4, the GPUs at hand"):
        devices.shares(5)
    machine.gpus.clear()
    assert [share.environment for share in devices.shares(8)] == [{}] * 8
    for jobs in (0, 9):
        with pytest.raises(InputError, match=f"--jobs is {jobs}; it must be from 1 to 8"):
            devices.shares(jobs)
