"""ohem_tf.compare as a user runs it, on a tiny data set."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny
from command_line import load_config, run

from ohem_tf import experiment, files
from ohem_tf.comparison import jobs
from ohem_tf.comparison.plan import Plan, Run
from ohem_tf.comparison.results import RESULT
from ohem_tf.comparison.run import execute, write_order
from ohem_tf.comparison.summary import summarize
from ohem_tf.devices import Share
from ohem_tf.errors import InputError
from ohem_tf.files import write_json
from ohem_tf.paper.recipes import METHODS
from ohem_tf.paper.tables import read_runs

CONFIG = """
from ohem_tf.config import paper

def get_config():
    config = paper()
    config.data.dir = {data!r}
    config.data.train_split, config.data.eval_split = "train", "val"
    config.data.shortest_sides, config.data.longest_side = (48,), 64
    config.backbone.name, config.backbone.weights = {backbone!r}, "imagenet"
    config.backbone.preprocessing, config.backbone.frozen_until = "lite", ""
    config.head.pool_size, config.head.hidden = 3, (16,)
    config.train.images_per_step, config.train.rois_per_step = 1, 16
    config.train.steps, config.train.learning_rate = 4, 0.01
    config.train.decay_steps = (3,)
    config.train.checkpoint_every, config.train.eval_every, config.train.log_every = 1, 2, 1
    config.detection.shortest_sides, config.detection.longest_side = (48,), 64
    config.detection.score_threshold = 0.0
    return config
"""


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("config")
    images = [tiny.make_record(i, 64, 48 + 8 * (i % 3), objects=1 + i % 2) for i in range(14)]
    dataset = tiny.write_dataset(folder, {"train": images[:10], "val": images[10:]})
    backbone = tiny.vgg_preset(folder / "preset")
    path = folder / "tiny_config.py"
    path.write_text(CONFIG.format(data=str(dataset), backbone=backbone))
    return path


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs without processes of their own; the list of those that ran."""
    ran = []

    def run_all(runs, _, finished):
        for one in runs:
            ran.append(one.name)
            execute(one.workdir)
            finished(one)

    monkeypatch.setattr(jobs, "run_all", run_all)
    return ran


def compare(config_file, workdir, *arguments):
    place = (f"--config={config_file}", f"--workdir={workdir}")
    return run("ohem_tf.compare", *place, *arguments)


def test_a_comparison_has_one_owner(config_file, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PATIENCE_SECONDS", 0.0)
    with files.owned(str(tmp_path), "workdir"):
        refused = compare(config_file, tmp_path, "--seeds=1")
    assert refused.returncode == 1
    assert f"{tmp_path} is in use by process {os.getpid()} on" in refused.stderr


@pytest.mark.slow
def test_two_methods_and_two_seeds(config_file, tmp_path, in_this_process):
    result = compare(config_file, tmp_path, "--methods=frcn,ohem", "--seeds=2")
    assert result.returncode == 0, result.stderr
    assert in_this_process == ["frcn seed 0", "ohem seed 0", "frcn seed 1", "ohem seed 1"]
    content = json.loads((tmp_path / "compare.json").read_text())
    values = {(one["method"], one["seed"]): one["mAP"] for one in content["runs"]}
    for (method, seed), value in values.items():
        folder = tmp_path / method / f"seed-{seed}"
        assert value == json.loads((folder / "compared.metrics.json").read_text())["mAP"]
        sampler = json.loads((folder / "config.json").read_text())["config"]["sampler"]
        assert sampler == {"frcn": "heuristic", "ohem": "ohem"}[method]
    apart = content["differences"]["ohem"]
    assert apart["by_seed"] == [values["ohem", s] - values["frcn", s] for s in (0, 1)]
    assert apart["mean"] == pytest.approx(np.mean(apart["by_seed"]))
    assert apart["seeds_interval"][0] <= apart["mean"] <= apart["seeds_interval"][1]
    for one in content["runs"]:
        assert [point[0] for point in one["curve"]] == [2, 4]
        assert 0 < one["curve"][0][1] < one["curve"][1][1] == pytest.approx(one["seconds"])
        assert [point["step"] for point in one["roi_loss"]] == [1, 2, 3, 4]
        assert one["peak_memory_mb"] > 100
    page = (tmp_path / "compare.md").read_text()
    assert apart["verdict"] in page
    assert apart["verdict"] in result.stdout
    assert "![curves](compare.png)" in page
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")

    # Again: nothing is left to do, and the page is the same.
    again = compare(config_file, tmp_path, "--methods=frcn,ohem", "--seeds=2")
    assert again.returncode == 0
    assert len(in_this_process) == 4
    assert (tmp_path / "compare.json").read_text() == json.dumps(content, indent=1) + "\n"

    # tables takes the folder for all its runs.
    assert len(read_runs([str(tmp_path)])) == 4

    # A seed that the reference lacks is left out, and so is a method without any other.
    (tmp_path / "frcn" / "seed-1" / RESULT).rename(tmp_path / "moved")
    runs = Plan(load_config(config_file), ("frcn", "ohem"), 2, str(tmp_path)).runs({})
    plan = Plan(load_config(config_file), ("frcn", "ohem"), 2, str(tmp_path))
    fewer = summarize(plan, [r for r in runs if r.name != "frcn seed 1"], {}, "")
    assert [(r["method"], r["seed"]) for r in fewer["runs"]] == [("frcn", 0), ("ohem", 0)]
    alone = summarize(plan, [runs[0], runs[3]], {}, "")
    assert (alone["methods"], alone["differences"]) == (["frcn"], {})
    (tmp_path / "moved").rename(tmp_path / "frcn" / "seed-1" / RESULT)

    # On another machine, with what was found here and one more method: only that is trained.
    elsewhere, older = tmp_path / "elsewhere", json.loads((tmp_path / "compare.json").read_text())
    del older["settings"]["config.ohem.candidates"]  # a field that was new since, at its default
    older["settings"]["config.ohem.chunk"] = 7  # one that was not known to change nothing
    (tmp_path / "older.json").write_text(json.dumps(older))
    older["settings"]["config.ohem.candidates"] = 8
    (tmp_path / "changed.json").write_text(json.dumps(older))
    known = f"--reuse={tmp_path}/older.json"
    more = compare(
        config_file,
        elsewhere,
        "--methods=frcn,isr",
        "--seeds=1",
        "--output=" + str(tmp_path / "pages/other"),
        known,
    )
    assert more.returncode == 0, more.stderr
    assert in_this_process[4:] == ["isr seed 0"]
    assert "one seed each, an anecdote" in (tmp_path / "pages/other.md").read_text()
    both = json.loads((tmp_path / "pages/other.json").read_text())
    assert both["runs"][0] == content["runs"][0]
    assert [one.setting.method for one in read_runs([str(elsewhere)])] == ["ISR"]

    for flag, message in (
        ("--config.train.weight_decay=0.1", "config.train.weight_decay = 0.0005, not 0.1"),
        ("--config.data.eval_split=val[:3]", "config.data.eval_split = val, not val[:3]"),
        ("--learning_rates=0.1", "--learning_rates = None, not [0.1]"),
        (f"--reuse={config_file}", "cannot be read"),
        (f"--reuse={tmp_path}/changed.json", "config.ohem.candidates = 8, not 0"),
        (f"--reuse={tmp_path}/frcn/seed-0/config.json", "is not the json that ohem_tf.compare"),
    ):
        refused = compare(config_file, tmp_path / "refused", known, "--search_steps=2", flag)
        assert refused.returncode == 1
        assert message in refused.stderr

    other = compare(config_file, tmp_path, "--config.train.weight_decay=0.1")
    assert other.returncode == 1
    assert "seed-0 was trained with config.train.weight_decay = 0.0005, not 0.1" in other.stderr


@pytest.mark.slow
def test_learning_rates_are_chosen_on_a_held_out_part_of_the_training_split(
    config_file, tmp_path, in_this_process
):
    flags = ("--methods=ohem", "--seeds=1", "--learning_rates=0.0001,0.02", "--search_steps=2")
    result = compare(config_file, tmp_path, *flags)
    assert result.returncode == 0, result.stderr
    assert in_this_process == ["ohem seed 0"] * 3
    tried = {}
    for rate in (0.0001, 0.02):
        folder = tmp_path / "search" / "ohem" / f"lr-{rate:g}"
        config = json.loads((folder / "config.json").read_text())["config"]
        assert config["data"]["train_split"] == "train[:90%]"
        assert config["data"]["eval_split"] == "train[90%:]"
        assert (config["train"]["steps"], config["train"]["decay_steps"]) == (2, [2])
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        (tried[rate],) = [line["eval/mAP"] for line in lines if "eval/mAP" in line]
    content = json.loads((tmp_path / "compare.json").read_text())
    chosen = content["search"]["chosen"]["ohem"]
    assert tried[chosen] == max(tried.values())
    assert content["runs"][0]["learning_rate"] == chosen
    assert "## Learning rates" in (tmp_path / "compare.md").read_text()


def test_a_held_out_part_without_objects_cannot_choose(config_file, tmp_path, monkeypatch):
    def run_all(runs, _, finished):
        for one in runs:
            write_json(os.path.join(one.workdir, RESULT), {"mAP": None})

    monkeypatch.setattr(jobs, "run_all", run_all)
    result = compare(config_file, tmp_path, "--learning_rates=0.01", "--search_steps=2")
    assert result.returncode == 1
    assert "train[90%:] gives no mAP to choose by" in result.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--methods=frcn,omeh"], "--methods: 'omeh' is none of frcn, frcn_bg0, "),
        (["--methods=frcn,frcn"], "each name must stand there once"),
        (["--seeds=0"], "--seeds is 0; it must be 1 or more"),
        (["--jobs=1000"], "--jobs is 1000; it must be from 1 to"),
        (["--learning_rates=a"], "--learning_rates: could not convert string to float"),
        (["--learning_rates=-1"], "--learning_rates: each must be a number > 0"),
        (["--learning_rates=1,1"], "--learning_rates: each must be a number > 0 that stands there"),
        (
            ["--learning_rates=1", "--search_steps=2", "--config.data.train_split=train[:5]"],
            "config.data.train_split is 'train[:5]'; --learning_rates needs whole splits",
        ),
        (["--config.detection.shortest_sides=(48,64)"], "a comparison tests at one scale"),
        (["--config.train.log_every=5"], "config.train.log_every is 5; it must be at most 4"),
        (["--config.data.eval_split=val[:1]"], "val[:1] has 1 images with"),
        (["--learning_rates=0.1", "--search_steps=4"], "--search_steps is 4; it must be less than"),
        (["--config.train.steps=0"], "config.train.steps is 0"),
        (["--config.data.eval_split=none"], "config.data.eval_split is 'none'"),
    ],
)
def test_bad_flags_are_refused_before_anything_is_trained(config_file, tmp_path, flags, message):
    result = compare(config_file, tmp_path, *flags)
    assert result.returncode == 1
    assert message in result.stderr
    assert not list(tmp_path.rglob("config.json"))


@pytest.mark.slow
def test_a_rate_that_diverges_counts_as_0(config_file, tmp_path):
    config = load_config(config_file)
    config.train.learning_rate = 1e30
    write_order(Run("frcn", 0, config, str(tmp_path)), 0)
    execute(str(tmp_path))
    assert json.loads((tmp_path / RESULT).read_text()) == {"mAP": 0.0}


def test_a_run_that_fails_stops_the_others_and_says_why(config_file, tmp_path, monkeypatch):
    """Processes that stand in for trainings: the second fails, the first would take long."""
    config = load_config(config_file)
    runs = [Run("frcn", i, config, str(tmp_path / f"seed-{i}")) for i in range(4)]
    for one in runs:
        os.makedirs(one.workdir)
    code = {0: "import time; time.sleep(600)", 1: "print('some'); print('error: no room')\nexit(1)"}
    started = []

    def start(run, share):
        started.append(run.seed)
        with open(os.path.join(run.workdir, "output.txt"), "w", encoding="utf-8") as output:
            return subprocess.Popen([sys.executable, "-c", code[run.seed]], stdout=output)

    monkeypatch.setattr(jobs, "_start", start)
    monkeypatch.setattr(jobs, "shares", lambda count: [Share((0,), None)] * count)
    monkeypatch.setitem(code, 2, code[0])
    monkeypatch.setitem(code, 3, code[0])
    with pytest.raises(InputError, match=r"^frcn seed 1: error: no room \(all its output: "):
        jobs.run_all(runs, 2, lambda _: None)
    assert set(started) <= {0, 1, 2}


def test_methods_of_a_seed_start_from_the_same_weights_and_see_the_same_images(config_file):
    plan = Plan(load_config(config_file), tuple(METHODS), 2, "workdir")
    runs = plan.runs({})
    assert len({one.workdir for one in runs}) == len(runs) == 2 * len(METHODS)
    for seed in (0, 1):
        samplers, orders, weights = set(), set(), []
        for one in (each for each in runs if each.seed == seed):
            samplers.add(experiment.build_sampler(one.config))
            model = experiment.build_model(one.config, 3) if len(weights) < 3 else None
            weights += [model.roi_head.get_weights()] if model else []
            orders.add((one.config.seed, one.config.data.flip, one.config.train.steps))
        assert len(samplers) == len(METHODS)  # no two methods are the same
        assert orders == {(seed, "double", 4)}
        for other in weights[1:]:
            for a, b in zip(weights[0], other, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_killed_comparison_resumes(config_file, tmp_path):
    """With processes of their own: the training ends with the comparison, and goes on with it."""
    command = [sys.executable, "-m", "ohem_tf.compare", f"--config={config_file}"]
    command += [f"--workdir={tmp_path}", "--methods=frcn", "--seeds=1", "--jobs=1"]
    command += ["--config.train.steps=300"]
    root = pathlib.Path(__file__).resolve().parents[2]
    log = tmp_path / "frcn" / "seed-0" / "log.jsonl"
    process = subprocess.Popen(
        command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) > 5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not processes_of(tmp_path))
    before = [json.loads(line)["step"] for line in log.read_text().splitlines() if line]
    assert 5 < max(before) < 300
    command[-1] = f"--config.train.steps={max(before) + 4}"
    (tmp_path / "frcn" / "seed-0" / "config.json").write_text(
        (tmp_path / "frcn" / "seed-0" / "config.json")
        .read_text()
        .replace('"steps": 300', f'"steps": {max(before) + 4}')
    )
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "resuming from" in (tmp_path / "frcn" / "seed-0" / "output.txt").read_text()
    assert "frcn alone: nothing to compare it with" in ended.stdout


def wait_for(condition, seconds=240):
    for _ in range(seconds * 5):
        if condition():
            return
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")


def processes_of(folder):
    """Processes whose command line names `folder`."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in entry.read_bytes() and entry.parent.name != str(os.getpid()):
                found.append(entry.parent.name)
        except OSError:
            pass
    return found
