"""train --dry_run: says what a training takes, and leaves nothing behind."""

import os

import pytest
import tensorflow as tf
import tiny

from ohem_tf import rehearsal
from ohem_tf.errors import InputError


def table(config):
    lines = rehearsal.rehearse(config).splitlines()
    return {line[:15].strip(): line[15:].strip() for line in lines}


def test_it_says_what_the_whole_takes(dataset, tiny_backbone, monkeypatch):
    ticks = iter(range(0, 1000, 2))
    monkeypatch.setattr(rehearsal.time, "perf_counter", lambda: next(ticks))
    config = tiny.config(dataset, **{"train.steps": 5000, "data.flip": "double"})
    before = sorted(os.listdir(dataset))
    found = table(config)
    assert found["seconds a step"].startswith("2.000 ")
    assert found["time"] == "2 h 47 min without evaluations"
    assert found["classes"] == "3: disc, square, bar"
    images = int(found["images"].split()[0])
    times = 5000 * config.train.images_per_step / images
    assert f"each image {times:.1f} times ({times / 2:.1f} epochs)" in found["steps"]
    rois = config.train.rois_per_step // config.train.images_per_step
    assert found["RoIs"].endswith(f"of which ohem takes {rois}")
    used, whole = found["memory"].split(" GB of ")
    assert 0.1 < float(used) < float(whole)
    assert sorted(os.listdir(dataset)) == before


def test_a_nearly_full_memory_says_what_helps(dataset, tiny_backbone, monkeypatch):
    monkeypatch.setattr(rehearsal, "peak_bytes", lambda: 2**50)
    assert (
        "--config.ohem.chunk=1250"
        in table(tiny.config(dataset, **{"train.images_per_step": 1}))["too much?"]
    )


def limited(monkeypatch, most):
    """Steps that have room for so many RoIs at a time; the list of what was tried."""
    steps, tried = rehearsal._steps, []

    def within(config, *more):
        tried.append(config.ohem.chunk)
        if not 0 < config.ohem.chunk <= most:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating a tensor")
        return steps(config, *more)

    monkeypatch.setattr(rehearsal, "_steps", within)
    return tried


@pytest.mark.parametrize(("chunk", "tries"), [(0, [0, 1250, 625, 312]), (900, [900, 450])])
def test_memory_that_runs_out_finds_how_many_rois_fit(
    dataset, tiny_backbone, monkeypatch, chunk, tries
):
    tried = limited(monkeypatch, 600)
    config = tiny.config(dataset, **{"train.images_per_step": 1, "ohem.chunk": chunk})
    needed = f"--config.ohem.chunk={tries[-1]} is needed, and did this"
    assert table(config)["too much?"] == needed
    assert tried == tries
    assert config.ohem.chunk == chunk


@pytest.mark.parametrize("sampler", ["ohem", "heuristic"])
def test_memory_that_is_too_small_says_what_helps(dataset, monkeypatch, sampler):
    tried = limited(monkeypatch, 50)
    with pytest.raises(InputError, match=r"runs out \(OOM when .*--config\.data\.longest_side"):
        rehearsal.rehearse(tiny.config(dataset, sampler=sampler))
    assert tried == ([2500, 1250, 625, 312, 156] if sampler == "ohem" else [2500])


def test_bad_settings_are_refused_as_in_training(dataset):
    with pytest.raises(InputError, match=r"data\.train_split"):
        rehearsal.rehearse(tiny.config(dataset, **{"data.train_split": "nowhere"}))
