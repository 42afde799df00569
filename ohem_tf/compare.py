"""Compares ways of choosing RoIs on your data.

    python -m ohem_tf.compare --config=configs/quickstart.py --methods=frcn,ohem --seeds=3 \
        --workdir=runs/compare --config.data.dir=runs/quickstart/records --jobs=2

Trains each method with each seed in DIR/METHOD/seed-S, an ordinary workdir of ohem_tf.train: the
same initial weights and order of examples for all methods of a seed, and as many updates.
Killed and started again, it resumes. Writes DIR/compare.md, .json and .png after each run, prints
how large the difference to the first method is, and how sure that is.

--learning_rates=0.005,0.01,0.02 first tries each for each method in short trainings on 90 % of the
training split, and takes the one with the highest mAP on the rest.

--reuse=PATH.json takes the runs of a comparison that was made elsewhere with the same settings, so
that several machines, or one that does not last, can share the work.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from ohem_tf import devices, experiment
from ohem_tf.comparison import jobs, page, results, reuse
from ohem_tf.comparison.plan import Plan, Run, check_workdir
from ohem_tf.comparison.run import write_order
from ohem_tf.comparison.summary import summarize
from ohem_tf.data.ground_truth import ground_truth
from ohem_tf.errors import InputError, run
from ohem_tf.evaluation import report
from ohem_tf.files import atomic, make_folder, owned, write_json
from ohem_tf.interruption import Interruption
from ohem_tf.paper.recipes import METHODS
from ohem_tf.progress import say
from ohem_tf.workdir import COMPARISON

NAME = os.path.splitext(COMPARISON)[0]
_HOW_TO_GO_ON = "comparison stopped; the same command goes on with the trainings that are left"


def compare(
    plan: Plan,
    side_by_side: int = 1,
    roi_loss_images: int = 500,
    output: str | None = None,
    reused: Sequence[str] = (),
) -> dict:
    """Runs what is missing of a comparison, and writes its page.

    Args:
      plan: see `Plan`.
      side_by_side: how many trainings at a time, each with its share of the cores, or a GPU each.
      roi_loss_images: how many training images the loss over all RoIs is measured on.
      output: base of the paths of the page; default: WORKDIR/compare. The text of OUTPUT.intro.md,
        if it exists, stands first.
      reused: comparisons whose runs need not be made again, see `comparison.reuse`.

    Returns:
      See `comparison.summary.summarize`.

    Raises:
      InputError: bad settings or data, a workdir in use or of other settings, before anything is
        trained; a training that failed.
    """
    plan.check()
    _check_data(plan)
    devices.shares(side_by_side)
    devices.use(())  # the GPUs are for the trainings
    make_folder(plan.workdir, "workdir")
    with owned(plan.workdir, "workdir"), Interruption(lambda: _HOW_TO_GO_ON):
        return _compare(plan, side_by_side, roi_loss_images, output, reused)


def _compare(
    plan: Plan,
    side_by_side: int,
    roi_loss_images: int,
    output: str | None,
    reused: Sequence[str],
) -> dict:
    base = output or os.path.join(plan.workdir, NAME)
    make_folder(os.path.dirname(base) or ".", "output")
    for one in plan.runs({}):
        check_workdir(one, any_rate=bool(plan.learning_rates))
    for path in reused:
        reuse.bring_in(path, plan)
    chosen = _choose_learning_rates(plan, side_by_side) if plan.learning_rates else {}
    runs = plan.runs(chosen)
    for one in runs:
        check_workdir(one)
        _check_rate(one)
    missing = [one for one in runs if not results.is_finished(one)]
    for one in missing:
        write_order(one, roi_loss_images)

    def finished(one: Run) -> None:
        say(f"{one.name}: mAP {results.read(one)['mAP']:.4f}")
        _report(plan, runs, chosen, base)

    if missing:
        jobs.run_all(missing, side_by_side, finished)
    return _report(plan, runs, chosen, base)


def _check_data(plan: Plan) -> None:
    _, held_out = experiment.open_splits(plan.config, annotated=True)
    split = plan.config.data.eval_split
    objects = sum(
        int(sum(~image["difficult"])) for image in report.ignoring_crowds(ground_truth(held_out))
    )
    if len(held_out) < 2 or not objects:
        raise InputError(
            f"config.data.eval_split: {split} has {len(held_out)} images with {objects} objects "
            "that count; a comparison needs two images or more, and objects"
        )


def _choose_learning_rates(plan: Plan, side_by_side: int) -> dict[str, float]:
    """The learning rate of each method with the highest mAP in a short training."""
    runs = plan.search()
    for one in runs:
        check_workdir(one)
    missing = [one for one in runs if not results.is_finished(one)]
    for one in missing:
        write_order(one, roi_loss_images=0)
    if missing:
        jobs.run_all(missing, side_by_side, lambda _: None)
    found = {one.workdir: results.search_map(one) for one in runs}
    if None in found.values():
        raise InputError(
            f"--learning_rates: {runs[0].config.data.eval_split} gives no mAP to choose by; it has "
            "no object that counts"
        )
    chosen = {}
    for method in plan.methods:
        mine = [one for one in runs if one.method == method]
        tried = {one.config.train.learning_rate: found[one.workdir] or 0.0 for one in mine}
        chosen[method] = max(tried, key=lambda rate: tried[rate])
        values = ", ".join(f"{rate:g}: {value:.4f}" for rate, value in tried.items())
        print(f"learning rate of {method}: {chosen[method]:g} (mAP {values})", flush=True)
    return chosen


def _check_rate(one: Run) -> None:
    """Raises InputError if a finished run was made with another learning rate."""
    if results.is_finished(one):
        rate = results.read(one)["learning_rate"]
        if rate != one.config.train.learning_rate:
            raise InputError(
                f"--workdir: {one.workdir} was trained with learning rate {rate:g}, not "
                f"{one.config.train.learning_rate:g}; give another --workdir, or delete that folder"
            )


def _report(plan: Plan, runs: Sequence[Run], chosen: dict[str, float], base: str) -> dict:
    """Writes the page of what is finished; {} while the first method has no finished run."""
    done = [one for one in runs if results.is_finished(one)]
    if not any(one.method == plan.methods[0] for one in done):
        return {}
    content = summarize(plan, done, chosen, _command())
    title = f"# {', '.join(content['methods'])} on {os.path.basename(plan.config.data.dir)}"
    introduction = page.read_introduction(base, title)
    with atomic(f"{base}.png") as temporary:
        page.draw(content, temporary)
    with atomic(f"{base}.md") as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(page.markdown(content, introduction, f"{os.path.basename(base)}.png"))
    for path in {f"{base}.json", os.path.join(plan.workdir, COMPARISON)}:  # tables reads the latter
        write_json(path, content)
    return content


def _command() -> str:
    """The command line that is running, as a user would type it."""
    return f"python -m ohem_tf.compare {shlex.join(sys.argv[1:])}"


def define_flags() -> None:
    """Defines the flags (not at import: binaries share names, and scripts import this module)."""
    config_flags.DEFINE_config_file("config", None, "What the methods change: a file in configs/.")
    flags.DEFINE_list(
        "methods", ["frcn", "ohem"], f"Of {', '.join(METHODS)}; the first is the reference."
    )
    flags.DEFINE_integer("seeds", 3, "How many trainings of each method.")
    flags.DEFINE_string("workdir", None, "Where the runs go.")
    flags.DEFINE_integer("jobs", 1, "Trainings side by side.")
    flags.DEFINE_list(
        "learning_rates", [], "To choose from, for each method; default: the config's."
    )
    flags.DEFINE_integer(
        "search_steps", 0, "Of the trainings that choose; default: a fifth of config.train.steps."
    )
    flags.DEFINE_integer(
        "roi_loss_images", 500, "Training images for the loss over all RoIs.", lower_bound=1
    )
    flags.DEFINE_string(
        "output",
        None,
        "Base of the paths of the page, such as docs/results/NAME; default: WORKDIR/compare.",
    )
    flags.DEFINE_list("reuse", [], "Json of comparisons whose runs need not be made again.")


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    given = flags.FLAGS
    if given.config is None or given.workdir is None:
        raise InputError("give --config=configs/NAME.py and --workdir=DIR")
    try:
        rates = tuple(float(rate) for rate in given.learning_rates)
    except ValueError as error:
        raise InputError(f"--learning_rates: {error}; give numbers, comma separated") from error
    steps = given.search_steps or given.config.train.steps // 5
    plan = Plan(given.config, given.methods, given.seeds, given.workdir, rates, steps)
    content = compare(plan, given.jobs, given.roi_loss_images, given.output, given.reuse)
    base = given.output or os.path.join(given.workdir, NAME)
    print(f"\n{page.terminal(content)}\n\n{base}.md, .json, .png")


def cli() -> None:
    """Console script."""
    define_flags()
    run(main)


if __name__ == "__main__":
    cli()
