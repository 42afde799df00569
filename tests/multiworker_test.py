"""Training on several machines: processes on loopback, each with a TF_CONFIG of its own."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf
import tiny

from ohem_tf.train import train
from ohem_tf.workdir import CHECKPOINTS

TESTS = pathlib.Path(__file__).resolve().parent
SETTINGS = {
    "train.steps": 10,
    "train.eval_every": 5,
    "train.snapshot_every": 5,
    "train.pictures_every": 5,
}

# As `python -m ohem_tf.train --strategy=multiworker`, with the backbone of tiny.py, and killed
# after a step if one is given.
WORKER = """
    import os, signal, sys
    import keras, tiny
    from ohem_tf import errors, train
    from ohem_tf.models import backbones, fast_rcnn

    backbones.build = lambda **_: (tiny.backbone(), {})
    dataset, workdir, settings, die_after = eval(sys.argv.pop())
    fit = fast_rcnn.FastRCNN.fit

    def die(batch, logs):
        if batch + 1 == die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    def fit_then_die(model, *args, callbacks, **kwargs):
        callbacks.append(keras.callbacks.LambdaCallback(on_train_batch_end=die))
        return fit(model, *args, callbacks=callbacks, **kwargs)

    fast_rcnn.FastRCNN.fit = fit_then_die
    config = tiny.config(dataset, **settings)
    errors.run(lambda argv: train.train(config, workdir, strategy="multiworker") and None)
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def run_workers(dataset, workdirs, die_after=(None, None)):
    """One worker process for each workdir: their exit statuses and what they printed."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(len(workdirs))]}
    processes = []
    for index, (workdir, death) in enumerate(zip(workdirs, die_after, strict=True)):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        environment = {**os.environ, "TF_CONFIG": json.dumps(task), "PYTHONPATH": path}
        arguments = repr((str(dataset), str(workdir), SETTINGS, death))
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(WORKER), arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        printed = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], printed


def checkpoint_values(workdir):
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(workdir / CHECKPOINTS)))
    names = [n for n in reader.get_variable_to_shape_map() if n.startswith(("weights", "optim"))]
    return {name: reader.get_tensor(name) for name in names}


def assert_same_run(workdir, alone):
    found, expected = checkpoint_values(workdir), checkpoint_values(alone)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)
    logs = [
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (workdir, alone)
    ]
    for mine, theirs in zip(*logs, strict=True):
        for line in (mine, theirs):
            line.pop("images/s", None)
            line.pop("data_wait", None)
        assert mine == pytest.approx(theirs, abs=1e-3)


def written(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def pictures_of(workdir):
    """How many pictures TensorBoard has of a run."""
    paths = (workdir / "tensorboard").iterdir()
    events = [e for path in paths for e in tf.compat.v1.train.summary_iterator(str(path))]
    return sum(
        value.metadata.plugin_data.plugin_name == "images"
        for event in events
        for value in event.summary.value
    )


@pytest.fixture(scope="module")
def alone(dataset, tmp_path_factory):
    """The workdir of the same run in one process on one device."""
    workdir = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ohem_tf.models.backbones.build", lambda **_: (tiny.backbone(), {}))
        train(tiny.config(dataset, **SETTINGS), str(workdir), devices=["CPU:0"])
    return workdir


@pytest.mark.slow
def test_two_workers_train_as_one_process_and_the_chief_alone_writes(dataset, alone, tmp_path):
    """Each has a workdir of its own here, so that what it writes can be told apart."""
    workdirs = [tmp_path / "chief", tmp_path / "other"]
    codes, printed = run_workers(dataset, workdirs)
    assert codes == [0, 0], "\n".join(printed)
    assert "training on 2 replicas of 2 workers" in printed[1]
    assert_same_run(workdirs[0], alone)
    names = [[n for n in written(w) if "tensorboard" not in n] for w in (workdirs[0], alone)]
    assert names[0] == names[1]
    assert written(workdirs[1]) == []
    assert pictures_of(workdirs[0]) == pictures_of(alone) > 0
    assert not any("no more pictures" in text for text in printed)
    assert "step 10: mAP" in printed[0]
    assert "mAP" not in printed[1]


@pytest.mark.slow
def test_after_a_worker_was_killed_all_start_again_and_end_as_an_unbroken_run(
    dataset, alone, tmp_path
):
    """Worker 1 dies after step 7: the chief ends with an error, and its checkpoint is of step 6."""
    codes, printed = run_workers(dataset, [tmp_path] * 2, die_after=(None, 7))
    assert codes == [1, -signal.SIGKILL], "\n".join(printed)
    error = printed[0].split("error: ")[1]
    assert "another worker is gone (" in error
    last = tmp_path / CHECKPOINTS / "ckpt-6"
    assert f"start all workers again to go on; last good checkpoint: {last}\n" in error
    codes, printed = run_workers(dataset, [tmp_path] * 2)
    assert codes == [0, 0], "\n".join(printed)
    assert "ckpt-6" in printed[0]
    assert_same_run(tmp_path, alone)
