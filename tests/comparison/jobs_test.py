"""Runs side by side: their progress."""

import io

from ohem_tf import progress
from ohem_tf.comparison import jobs


def test_steps_that_are_done_again_are_not_counted_twice(monkeypatch):
    """A run of 3600 steps whose log ends at 980 goes on from its checkpoint, 500."""
    now = [1000.0]
    monkeypatch.setattr(progress.library.std, "time", lambda: now[0])
    out = io.StringIO()
    bar = progress.tqdm(total=3600, initial=980, file=out, desc="1 run", unit="step")
    for steps in (980, 500, *range(520, 1520, 100)):
        now[0] += 100.0
        jobs._advance(bar, steps)
    now[0] += 1.0
    bar.display()
    last = out.getvalue().splitlines()[-1]
    assert last.startswith("1 run: 1420 of 3600 steps, ")
    # 920 steps in 1201 s leave 2180 for 2846 s; of late it was faster, 100 steps in 100 s.
    remaining = last.split(", ")[-1].removesuffix(" left").split(":")
    assert 2000 < int(remaining[0]) * 60 + int(remaining[1]) < 3000
    bar.close()
