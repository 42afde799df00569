"""OHEM against the heuristic sampler of Fast R-CNN: the same config, data, seeds and steps.

    python -m benchmarks.samplers --config=configs/quickstart.py \
        --config.data.dir=runs/quickstart/records --workdir=runs/samplers --seed=0 --seed=1

Trains and evaluates both samplers for each seed, prints their mAP side by side, and writes
WORKDIR/samplers.json. Interrupted, it resumes where it was. It compares accuracy, not speed: the
runs come one after the other, and may meet different loads of the machine.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence

import keras
from absl import flags
from ml_collections import config_flags

from ohem_tf.errors import InputError, run
from ohem_tf.evaluate import evaluate
from ohem_tf.files import write_json
from ohem_tf.train import train

_SAMPLERS = ("heuristic", "ohem")


def define_flags() -> None:
    """Defines the flags."""
    config_flags.DEFINE_config_file("config", None, "Experiment, a file in configs/.")
    flags.DEFINE_string("workdir", None, "Runs go to WORKDIR/SAMPLER-SEED.")
    flags.DEFINE_multi_integer("seed", [0], "A seed; give the flag several times for several.")


def main(argv: Sequence[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if given.config is None or given.workdir is None:
        raise InputError("give --config=configs/NAME.py and --workdir=DIR")
    results: dict[str, list[dict]] = {sampler: [] for sampler in _SAMPLERS}
    for seed in given.seed:
        for sampler in _SAMPLERS:
            keras.backend.clear_session()  # forget the model before
            config = given.config.copy_and_resolve_references()
            config.sampler, config.seed = sampler, seed
            workdir = os.path.join(given.workdir, f"{sampler}-{seed}")
            train(config, workdir)
            mean_ap = evaluate(config, workdir)["mAP"]
            results[sampler].append({"seed": seed, "mAP": mean_ap})
    write_json(os.path.join(given.workdir, "samplers.json"), results)

    print("sampler    median mAP  mAP of each seed")
    for sampler, runs in results.items():
        median = statistics.median(r["mAP"] for r in runs)
        print(f"{sampler:9s}  {median:10.3f}  " + " ".join(f"{r['mAP']:.3f}" for r in runs))


if __name__ == "__main__":
    define_flags()
    run(main)
