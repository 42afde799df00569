"""ohem_tf.find_lr: the sweep of rates, where the loss falls, and when it ends."""

import numpy as np
import pytest
import tiny
from command_line import run

from ohem_tf import find_lr


def test_rates_rise_by_the_same_factor():
    rate = find_lr.Sweep(1e-4, 1.0, 5)
    np.testing.assert_allclose([float(rate(i)) for i in range(5)], [1e-4, 1e-3, 1e-2, 0.1, 1], 1e-5)
    again = find_lr.Sweep.from_config(rate.get_config())
    assert float(again(3)) == float(rate(3))


def test_the_mean_has_no_bias_to_zero():
    np.testing.assert_allclose(find_lr.smoothed([3.0] * 7), 3.0)
    # By hand, with weights 0.95 and 1.
    np.testing.assert_allclose(find_lr.smoothed([2.0, 5.0])[1], (0.95 * 2 + 5) / 1.95)


def test_the_steepest_fall_is_found():
    rates = np.geomspace(1e-5, 1, 101)
    means = 3 - 2 / (1 + (1e-2 / rates) ** 2)  # falls around 0.01, evenly to both sides
    assert find_lr.steepest(rates, means) == pytest.approx(1e-2)
    assert find_lr.steepest(rates, 1 + rates) is None
    assert find_lr.steepest(rates[:2], means[:2]) is None


def test_a_sweep_ends_where_the_loss_is_not_finite(dataset, tiny_backbone):
    losses = find_lr.sweep(tiny.config(dataset), 1e-4, 1e12, 12)
    assert 3 <= len(losses) < 12
    assert np.all(np.isfinite(losses))


def find(tmp_path, monkeypatch, losses, *more):
    """What the binary does where the sweep has these losses."""
    monkeypatch.setattr(find_lr, "sweep", lambda *_: losses)
    path = tmp_path / "config.py"
    path.write_text("from ohem_tf.config import paper\nget_config = paper\n")
    return run("ohem_tf.find_lr", f"--config={path}", "--steps=20", *more)


def test_it_prints_and_draws(tmp_path, monkeypatch):
    plot = tmp_path / "lr.png"
    falling = list(np.linspace(3, 1, 20))
    done = find(tmp_path, monkeypatch, falling, f"--output={plot}")
    assert done.returncode == 0
    assert "it fell fastest at" in done.stdout
    assert plot.stat().st_size > 1000


@pytest.mark.parametrize("losses", [[], [1.0, 2.0, 4.0]])
def test_it_says_where_there_is_none(tmp_path, monkeypatch, losses):
    done = find(tmp_path, monkeypatch, losses)
    assert f"after {len(losses)} of 20 steps" in done.stdout
    assert "the loss fell nowhere" in done.stdout


def test_rates_in_the_wrong_order_are_refused(tmp_path, monkeypatch):
    done = find(tmp_path, monkeypatch, [], "--low=0.1", "--high=0.01")
    assert done.stderr == "error: --low=0.1: has to be less than --high=0.01\n"
