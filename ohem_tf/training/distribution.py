"""Which devices train, and how they share the images of a step."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.devices import names, use
from ohem_tf.errors import InputError


def strategy_for(devices: Sequence[str] | None, images_per_step: int) -> tf.distribute.Strategy:
    """The strategy that trains on `devices`.

    Args:
      devices: such as "GPU:0"; several: one replica each. None: as many GPUs as share the images
        of a step evenly, else the CPU.
      images_per_step: N, over all replicas.

    Raises:
      InputError: no such device here, or out of reach of this process (see `devices.use`), or N
        is no multiple of their number.
    """
    available = names()
    if not devices:  # as many GPUs as share N images evenly
        gpus = [d for d in available if d.startswith("GPU")]
        shared = max((n for n in range(1, len(gpus) + 1) if images_per_step % n == 0), default=0)
        devices = gpus[:shared] or ["CPU:0"]
        print(f"training on {', '.join(devices)}")
    for device in devices:
        if device not in available:
            raise InputError(f"--devices: no {device} here; there are {', '.join(available)}")
    if images_per_step % len(devices):
        raise InputError(
            f"config.train.images_per_step is {images_per_step}; it must be a multiple of the "
            f"number of devices, {len(devices)} (choose fewer with --devices)"
        )
    devices = use(devices)
    if len(devices) > 1:
        # NCCL between GPUs. TensorFlow's collectives between CPUs mix up the sums of two strategies
        # in one process, so there the gradients are added on one device.
        on_gpu = all(device.startswith("GPU") for device in devices)
        add_up = None if on_gpu else tf.distribute.ReductionToOneDevice()
        return tf.distribute.MirroredStrategy(devices, cross_device_ops=add_up)
    return tf.distribute.OneDeviceStrategy(devices[0])


def distributed_batches(
    strategy: tf.distribute.Strategy, stream: TrainingStream, first_step: int
) -> tf.distribute.DistributedDataset:
    """The batches of `stream` from `first_step` on, for `fit` under `strategy`.

    Each process reads and decodes its own images alone; which image comes at which step does not
    depend on the number of processes and devices.
    """

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        workers = context.num_input_pipelines
        replicas = context.num_replicas_in_sync // workers
        return stream.dataset(first_step, context.input_pipeline_id, workers, replicas)

    # Batches go ahead to a GPU. Where there is none that brings nothing, and the iterator, when
    # it is deleted, would wait up to a minute for a thread of tf.data that sleeps.
    ahead = bool(tf.config.list_logical_devices("GPU"))
    options = tf.distribute.InputOptions(experimental_fetch_to_device=ahead)
    return strategy.distribute_datasets_from_function(batches, options)
