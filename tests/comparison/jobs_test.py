"""Runs side by side: their progress."""

import io

from ohem_tf import progress
from ohem_tf.comparison import jobs


def test_steps_that_are_done_again_are_no_steps_backwards(monkeypatch):
    """A run of 3600 steps whose log ends at 980 goes on from its checkpoint, 500."""
    now = [1000.0]
    monkeypatch.setattr(progress.library.std, "time", lambda: now[0])
    out = io.StringIO()
    bar = progress.tqdm(total=3600, initial=980, file=out, desc="1 run", unit="step")
    for steps in (980, 500):
        now[0] += 40.0
        jobs._advance(bar, steps)
    bar.refresh()
    assert out.getvalue().splitlines()[-1] == "1 run: 500 of 3600 steps, 01:20 so far, ? left"
    bar.close()
