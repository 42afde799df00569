"""Training on several machines: who they are (TF_CONFIG), and that they do the same thing."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from ohem_tf.devices import names, use
from ohem_tf.errors import InputError

STRATEGIES = ("mirrored", "multiworker")
_VARIABLE = "TF_CONFIG"
_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
    ", the same on each machine but for its own index"
)
# What a step ends with on the other workers when one is gone, whatever TensorFlow noticed first.
PEER_ERRORS = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
)


class Worker(NamedTuple):
    """One process of a cluster, as TF_CONFIG tells it.

    Attributes:
      place: among all, from 0, the chief first.
      workers: processes in the cluster, the chief counted.
    """

    place: int
    workers: int

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the workdir; the others only read it."""
        return self.place == 0


def worker() -> Worker | None:
    """This process in the cluster of TF_CONFIG; None if that is not set.

    Raises:
      InputError: a TF_CONFIG that MultiWorkerMirroredStrategy cannot use.
    """
    text = os.environ.get(_VARIABLE)
    if not text:
        return None

    def wrong(reason: str) -> InputError:
        return InputError(f"{_VARIABLE}: {reason}; expected {_EXAMPLE}")

    try:
        config = json.loads(text)
    except ValueError as error:
        raise wrong(f"not valid json ({error})") from None
    cluster = config.get("cluster") if isinstance(config, dict) else None
    if not isinstance(cluster, dict) or not cluster.get("worker"):
        raise wrong('no "worker" in its "cluster"')
    if unknown := sorted(set(cluster) - {"chief", "worker"}):
        raise wrong(f"its cluster has {unknown[0]!r}, which takes no part in this training")
    for kind, addresses in cluster.items():
        if not isinstance(addresses, list):
            raise wrong(f"{kind!r} is {addresses!r}, not a list of addresses")
        for address in addresses:
            if not re.fullmatch(r"[^\s:]+:\d+", str(address)):
                raise wrong(f"{address!r} is no address; HOST:PORT is one")
    order = [(kind, i) for kind in ("chief", "worker") for i in range(len(cluster.get(kind, ())))]
    if len(cluster.get("chief", ())) > 1:
        raise wrong("more than one chief")
    if len({a for addresses in cluster.values() for a in addresses}) < len(order):
        raise wrong("an address stands in it twice")
    task = config.get("task")
    task = task if isinstance(task, dict) else {}
    mine = (task.get("type"), task.get("index"))
    if mine not in order:
        have = ", ".join(f"{kind} {i}" for kind, i in order)
        raise wrong(f"its task is type {mine[0]!r}, index {mine[1]!r}, but the cluster has {have}")
    return Worker(order.index(mine), len(order))


def is_chief(strategy: str, devices: Sequence[str] | None) -> bool:
    """Whether this process writes the workdir: it trains alone, or is the first of several workers.

    Raises:
      InputError: `strategy` is none of `STRATEGIES`, or does not go with `devices` or TF_CONFIG.
    """
    if strategy not in STRATEGIES:
        raise InputError(f"--strategy={strategy}: expected one of {', '.join(STRATEGIES)}")
    me = worker()
    if strategy == "multiworker":
        if devices:
            raise InputError(
                "--devices: a worker of --strategy=multiworker trains on all GPUs that it sees, "
                "else on its CPU; choose them with CUDA_VISIBLE_DEVICES"
            )
        return me is None or me.is_chief
    if me is not None and me.workers > 1:
        raise InputError(
            f"TF_CONFIG: it lists {me.workers} workers, but --strategy=mirrored trains on one "
            "machine; give --strategy=multiworker, or unset TF_CONFIG"
        )
    return True


def multi_worker_strategy(images_per_step: int) -> tf.distribute.MultiWorkerMirroredStrategy:
    """A replica on each GPU that each worker sees, or on its CPU; waits for all workers.

    TensorFlow must not have run an operation in this process yet.

    Args:
      images_per_step: N, over all replicas.

    Raises:
      InputError: no TF_CONFIG or a bad one, a cluster that does not come together, or N is no
        multiple of the number of replicas.
    """
    me = worker()
    if me is None:
        raise InputError(f"--strategy=multiworker: {_VARIABLE} is not set; expected {_EXAMPLE}")
    use([device for device in names() if device.startswith("GPU")])
    print(f"worker {me.place} of {me.workers}: waiting for the others", flush=True)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, *PEER_ERRORS) as error:
        raise InputError(
            f"{_VARIABLE}: the {me.workers} workers did not come together "
            f"({' '.join(str(error).split())[:200]}); expected all of them started within minutes "
            "of each other, each able to reach the addresses of the others"
        ) from error
    replicas = strategy.num_replicas_in_sync
    if images_per_step % replicas:
        raise InputError(
            f"config.train.images_per_step is {images_per_step}; it must be a multiple of the "
            f"number of replicas, {replicas} on {me.workers} workers"
        )
    print(f"training on {replicas} replicas of {me.workers} workers", flush=True)
    return strategy


def agree(strategy: tf.distribute.Strategy, values: Mapping[str, Any]) -> None:
    """Waits for all workers, and checks that they hold the same values.

    Two workers with other data, or one that does not see the workdir of the chief and starts from
    step 0, would train without complaint, and wrongly.

    Args:
      strategy: of `multi_worker_strategy`.
      values: {what it is: json}, the same keys on each worker.

    Raises:
      InputError: on each worker, naming what differs and its value here.
    """
    digests = [hashlib.sha256(json.dumps(v, sort_keys=True).encode()) for v in values.values()]
    row = [[int.from_bytes(digest.digest()[:7]) for digest in digests]]

    @tf.function
    def gather() -> tf.Tensor:
        return strategy.gather(strategy.run(lambda: tf.constant(row, tf.int64)), axis=0)

    rows = gather().numpy()
    for name, column in zip(values, rows.T, strict=True):
        if len(set(column)) > 1:
            raise InputError(
                f"--strategy=multiworker: the workers differ in {name} (here: "
                f"{json.dumps(values[name])[:200]}); expected the same config and records, and a "
                "--workdir on storage that all of them share"
            )
