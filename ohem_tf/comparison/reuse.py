"""Runs that were made elsewhere: the json of a comparison is all that its page needs of them."""

from __future__ import annotations

import json
import os
from typing import Any

from ohem_tf.comparison import results
from ohem_tf.comparison.plan import Plan, Run, defaults
from ohem_tf.config import FREE
from ohem_tf.data.joined import open_split
from ohem_tf.errors import InputError
from ohem_tf.files import make_folder, write_json

_FLAG = "--reuse"


def bring_in(path: str, plan: Plan) -> None:
    """Leaves the runs of another comparison in the workdirs of `plan`, finished.

    Methods and seeds that are not in `plan` are left out, and runs that it has finished itself
    stay as they are. What each method's learning rate was chosen by comes with them.

    Args:
      path: json that ohem_tf.compare wrote, on another machine say.
      plan: with the same settings; only paths and what changes no result may differ.

    Raises:
      InputError: the file is no comparison, or one with other settings or data.
    """
    content = _read(path)
    _check(path, content, plan)
    made = {(run["method"], run["seed"]): run for run in content["runs"]}
    for run in plan.runs({}):
        if (run.method, run.seed) in made:
            _leave(run, made[run.method, run.seed])
    if content["search"]:
        for run in plan.search():
            for tried in content["search"]["tried"].get(run.method, ()):
                if tried["learning_rate"] == run.config.train.learning_rate:
                    _leave(run, {"mAP": tried["mAP"]})


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{_FLAG}: {path} cannot be read ({error})") from error
    keys = {"runs", "settings", "search", "data"}
    if not (isinstance(content, dict) and keys <= set(content)):
        raise InputError(f"{_FLAG}: {path} is not the json that ohem_tf.compare writes")
    return content


def _check(path: str, content: dict[str, Any], plan: Plan) -> None:
    # A field that is newer than the file, or older than this program, was at its default.
    theirs, ours = ({**defaults(), **x} for x in (content["settings"], plan.settings()))
    free = {f"config.{name}" for name in FREE}  # in an older file, one may not have been yet
    for name in sorted({*theirs, *ours} - free):
        if theirs.get(name) != ours.get(name):
            raise InputError(
                f"{_FLAG}: {path} was made with {name} = {theirs.get(name)}, not {ours.get(name)}"
            )
    for part in ("train", "eval"):
        field = f"config.data.{part}_split"
        images = len(open_split(plan.config.data.dir, plan.config.data[f"{part}_split"], field))
        if content["data"][f"{part}_images"] != images:
            raise InputError(
                f"{_FLAG}: {path} was made with {content['data'][f'{part}_images']} images in "
                f"{field}, not {images}"
            )


def _leave(run: Run, result: dict[str, Any]) -> None:
    if not results.is_finished(run):
        make_folder(run.workdir, "workdir")
        write_json(os.path.join(run.workdir, results.RESULT), result)
