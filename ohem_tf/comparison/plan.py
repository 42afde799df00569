"""Which runs a comparison is made of: method by seed, each with its config and its workdir."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ohem_tf import experiment
from ohem_tf.config import FREE, differences, flat, paper, validate
from ohem_tf.errors import InputError
from ohem_tf.paper.recipes import METHODS
from ohem_tf.workdir import CONFIG, compared_workdir

_PATHS = ("config.data.dir", "config.backbone.name", "config.backbone.weights")
_HELD_OUT = 10  # percent of the training split on which learning rates are compared


class Run(NamedTuple):
    """A training, and what is measured of its model.

    Attributes:
      method: a name in `recipes.METHODS`.
      seed: of weights, order of examples, dropout and random samplers.
      config: complete.
      workdir: of the training.
    """

    method: str
    seed: int
    config: ConfigDict
    workdir: str

    @property
    def name(self) -> str:
        """For progress: "ohem seed 1"."""
        return f"{self.method} seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """A comparison.

    Attributes:
      config: what the methods change.
      methods: names in `recipes.METHODS`; the others are compared with the first.
      seeds: how many; from config.seed on.
      workdir: holds METHOD/seed-S of each run, and search/METHOD/lr-X.
      learning_rates: to choose from, for each method; empty: that of `config`.
      search_steps: of the trainings that choose.
    """

    config: ConfigDict
    methods: Sequence[str]
    seeds: int
    workdir: str
    learning_rates: Sequence[float] = ()
    search_steps: int = 0

    def settings(self) -> dict[str, Any]:
        """What two comparisons must share for their runs to be compared, {"config.FIELD": value}.

        Without seed, methods, and what changes no result; of paths the last part; of the learning
        rate, if it is chosen, from what.
        """
        chosen_by = {
            "--learning_rates": list(self.learning_rates),
            "--search_steps": self.search_steps,
        }
        free = FREE | {"seed"} | ({"train.learning_rate"} if self.learning_rates else set())
        fields = _fields(self.config, free)
        return fields | (chosen_by if self.learning_rates else {})

    def check(self) -> None:
        """Raises InputError for a setting that cannot work, before anything is trained."""
        validate(self.config)
        for name in self.methods:
            if name not in METHODS:
                raise InputError(f"--methods: {name!r} is none of {', '.join(METHODS)}")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise InputError(
                f"--methods is {','.join(self.methods)!r}; each name must stand there once"
            )
        if self.seeds < 1:
            raise InputError(f"--seeds is {self.seeds}; it must be 1 or more")
        rates = self.learning_rates
        if len(set(rates)) < len(rates) or not all(rate > 0 for rate in rates):
            raise InputError("--learning_rates: each must be a number > 0 that stands there once")
        train, sides = self.config.train, self.config.detection.shortest_sides
        if len(sides) != 1:
            raise InputError(
                f"config.detection.shortest_sides is {sides}; a comparison tests at one scale (the "
                "loss over all RoIs has no other); ohem_tf.evaluate tests its runs at several"
            )
        shortest = self.search_steps if rates else train.steps
        if train.log_every > shortest:
            raise InputError(
                f"config.train.log_every is {train.log_every}; it must be at most {shortest}, the "
                "steps of the shortest training"
            )
        if self.learning_rates and not 0 < self.search_steps < self.config.train.steps:
            raise InputError(
                f"--search_steps is {self.search_steps}; it must be less than "
                f"config.train.steps = {train.steps}"
            )
        if rates and "[" in self.config.data.train_split:
            raise InputError(
                f"config.data.train_split is {self.config.data.train_split!r}; --learning_rates "
                "needs whole splits, of which it holds out a part itself"
            )
        for run in [*self.search(), *self.runs(dict.fromkeys(self.methods, 1.0))]:
            validate(run.config)

    def search(self) -> list[Run]:
        """The trainings that choose the learning rates: short, on a part of the training split.

        The steps of the decay shrink in proportion; the warm-up is a fifth of the training at most.
        They are evaluated on the rest of the training split, never on the eval split.
        """
        runs = []
        for method in self.methods:
            for rate in self.learning_rates:
                config = self._config(method, self.config.seed)
                train, data = config.train, config.data
                scale = self.search_steps / train.steps
                train.decay_steps = tuple(round(step * scale) for step in train.decay_steps)
                train.warmup_steps = min(train.warmup_steps, self.search_steps // 5)
                train.steps, train.learning_rate = self.search_steps, rate
                train.eval_every = train.snapshot_every = 0
                whole = [part.strip() for part in data.train_split.split("+")]
                border = 100 - _HELD_OUT
                data.train_split = "+".join(f"{part}[:{border}%]" for part in whole)
                data.eval_split = "+".join(f"{part}[{border}%:]" for part in whole)
                folder = os.path.join(self.workdir, "search", method, f"lr-{rate:g}")
                runs.append(Run(method, config.seed, config, folder))
        return runs

    def runs(self, learning_rates: Mapping[str, float]) -> list[Run]:
        """The runs to compare, all methods of a seed before the next seed.

        Args:
          learning_rates: {method: rate}; a method that is absent trains with that of `config`.
        """
        runs = []
        for seed in range(self.config.seed, self.config.seed + self.seeds):
            for method in self.methods:
                config = self._config(method, seed)
                config.train.learning_rate = learning_rates.get(method, config.train.learning_rate)
                folder = compared_workdir(self.workdir, method, seed)
                runs.append(Run(method, seed, config, folder))
        return runs

    def _config(self, method: str, seed: int) -> ConfigDict:
        config = self.config.copy_and_resolve_references()
        METHODS[method].change(config)
        config.seed = seed
        if not config.train.snapshot_every:
            config.train.snapshot_every = -(-config.train.steps // 4)
        return config


def defaults() -> dict[str, Any]:
    """`Plan.settings` of a config that says nothing, without what those of another may lack."""
    return _fields(paper(), FREE | {"seed", "train.learning_rate"})


def check_workdir(run: Run, any_rate: bool = False) -> None:
    """Raises InputError if the workdir of a run holds a training with other settings.

    Args:
      run: to be trained.
      any_rate: its learning rate is still to be chosen.
    """
    free = FREE | {"train.learning_rate"} if any_rate else FREE
    if not os.path.exists(os.path.join(run.workdir, CONFIG)):
        return
    before = experiment.trained_config(None, {}, run.workdir)
    for field, (old, new) in differences(before, run.config, free).items():
        raise InputError(
            f"--workdir: {run.workdir} was trained with config.{field} = {old}, "
            f"not {new}; give another --workdir, or delete that folder"
        )


def _fields(config: ConfigDict, free: set[str]) -> dict[str, Any]:
    """{"config.FIELD": value} without `free`; of paths the last part."""
    fields = {f"config.{f}": v for f, v in flat(config.to_dict()).items() if f not in free}
    for field in _PATHS:
        fields[field] = os.path.basename(os.path.normpath(fields[field]))
    return fields
