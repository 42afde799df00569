"""Tables of runs: what stands in them, the files, and refusals that name the file."""

import csv
import json
import os
import pathlib

import command_line
import pytest

from ohem_tf.errors import InputError
from ohem_tf.paper import published, recipes, tables
from ohem_tf.workdir import save_config

CLASSES = tuple(next(row for row in published.rows() if row.ap).ap)


def evaluation(config, ap, split="voc07/test", checkpoint=None, **changes):
    """What evaluate writes, with the same AP for every class."""
    return {
        "mAP": ap,
        "AP": dict.fromkeys(CLASSES, ap),
        "method": "voc07",
        "iou_threshold": 0.5,
        "coco": {"AP": 0.41234, "AP50": ap, "AP_small": None},
        "images": 4952,
        "objects": dict.fromkeys(CLASSES, 3),
        "settings": {
            "split": split,
            "checkpoint": checkpoint or f"ckpt-{config.train.steps}",
            "detection": config.detection.to_dict(),
        },
        **changes,
    }


def workdir(folder, config, **metrics):
    """A workdir of a run with metrics files {name: content}."""
    folder.mkdir()
    save_config(config, {}, CLASSES, str(folder))
    for name, content in metrics.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return str(folder)


def voc07(*changes):
    config = recipes.voc07()
    config.data.dir = "records/voc07"
    for change in changes:
        change(config)
    return config


M = (recipes.multi_scale_training, recipes.multi_scale_testing)


@pytest.fixture
def paths(tmp_path):
    """Plain OHEM, FRCN; OHEM trained with M, evaluated with M and with M and B."""
    ohem, frcn = voc07(), voc07(recipes.frcn)
    m, m_b = voc07(*M), voc07(*M, recipes.iterative_regression)
    return [
        workdir(tmp_path / "ohem", ohem, metrics=evaluation(ohem, 0.7012)),
        workdir(tmp_path / "frcn", frcn, metrics=evaluation(frcn, 0.66)),
        workdir(
            tmp_path / "m", m, metrics=evaluation(m, 0.71), both=evaluation(m_b, 0.75, iou=0.5)
        ),
        str(tmp_path / "m" / "both.json"),
    ]


@pytest.fixture
def runs(paths):
    return [tables.read_run(path) for path in paths]


def test_runs_are_read_with_their_setting_and_row(runs):
    assert [r.name for r in runs] == ["ohem", "frcn", "m", "both"]
    labels = ["OHEM N=2 VGG16 07", "FRCN N=2 VGG16 07", "OHEM N=2 VGG16 07 M"]
    assert [r.setting.label for r in runs] == [*labels, "OHEM N=2 VGG16 07 M B"]
    assert [r.row.mean_ap for r in runs] == [69.9, 67.2, 71.2, 75.1]


def test_the_overview_sets_ours_beside_the_papers(runs):
    table = tables.overview(runs)
    ours, theirs = table.columns.index("mAP %"), table.columns.index("paper mAP %")
    assert [row[ours] for row in table.rows] == [70.12, 66.0, 71.0, 75.0]
    assert [row[theirs] for row in table.rows] == [69.9, 67.2, 71.2, 75.1]
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_classes_stand_in_rows_with_the_papers_beside(runs):
    (table,) = tables.per_class(runs)
    # Per class, the paper has plain OHEM, plain FRCN and OHEM M B, not M alone.
    assert table.columns == [
        *("class", "ohem %", "paper %", "frcn %", "paper %", "m %", "both %", "paper %")
    ]
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == [*CLASSES, "mAP"]
    assert rows["aeroplane"] == [70.12, 71.2, 66.0, 74.6, 71.0, 75.0, 77.7]
    assert rows["mAP"] == [70.12, 69.9, 66.0, 67.2, 71.0, 75.0, 75.1]


def test_the_ablation_marks_m_and_b(runs):
    (table,) = tables.ablation(runs[::-1])
    assert table.rows == [
        ["FRCN N=2 VGG16 07", "", "", "", 66.0, 67.2, runs[1].row.table],
        ["OHEM N=2 VGG16 07", "", "", "", 70.12, 69.9, runs[0].row.table],
        ["OHEM N=2 VGG16 07", "x", "x", "", 71.0, 71.2, "6"],
        ["OHEM N=2 VGG16 07", "x", "x", "x", 75.0, 75.1, runs[3].row.table],
    ]
    assert tables.ablation(runs[:2]) == []  # nothing to compare


def test_two_scorings_of_a_model_are_two_runs(tmp_path):
    config = voc07()
    fast = voc07()
    fast.detection.score_threshold, fast.detection.max_detections = 0.05, 100
    path = workdir(
        tmp_path / "ohem", config, metrics=evaluation(config, 0.70), fast=evaluation(fast, 0.68)
    )
    runs = tables.read_runs([path, os.path.join(path, "fast.json")])
    rows = tables.overview(runs).rows
    setting = "OHEM N=2 VGG16 07"
    changes = "detection.max_detections=100, detection.score_threshold=0.05"
    assert [row[:2] + row[5:-1] for row in rows] == [
        ["ohem", setting, "", 70.0, 69.9],
        ["fast", setting, changes, 68.0, ""],
    ]
    b = voc07(recipes.iterative_regression)
    (folder,) = [workdir(tmp_path / "b", b, metrics=evaluation(b, 0.71))]
    (table,) = tables.ablation([*runs, tables.read_run(folder)])
    assert [row[0] for row in table.rows] == [setting, setting, f"{setting}, {changes}"]


def test_coco_metrics_with_the_papers_row_below(tmp_path):
    config = recipes.coco()
    config.data.dir = "records/coco"
    found = evaluation(config, 0.42, split="coco/val2014", method="area")
    run = tables.read_run(workdir(tmp_path / "coco", config, metrics=found))
    (table,) = tables.coco([run, run._replace(metrics={**found, "coco": {}})])
    assert len(table.rows) == 2
    assert table.columns[2:5] == ["AP %", "AP50 %", "AP75 %"]
    assert table.rows[0] == ["coco", "COCO", 41.23, 42.0, *["no data"] * 4]
    assert table.rows[1][1:] == ["COCO test-dev", 22.6, 42.5, "", "", 23.7, ""]


def test_a_run_without_a_row_stands_alone(tmp_path):
    config = voc07()
    config.train.steps = 1000
    config.train.decay_steps = ()
    config.head.dropout = 0.25
    found = evaluation(config, None, AP={"cat": None, "dog": 0.5}, coco={})
    run = tables.read_run(workdir(tmp_path / "mine", config, metrics=found))
    table = tables.overview([run])
    assert table.rows == [
        [
            *("mine", "OHEM N=2 VGG16 07", "07 test", "0.001", "ckpt-1000", "head.dropout=0.25"),
            *("no data", "", ""),
        ]
    ]
    assert tables.coco([run]) == []
    (classes,) = tables.per_class([run])
    assert classes.rows == [["cat", "no data"], ["dog", 50.0], ["mAP", "no data"]]


def test_runs_of_other_classes_have_tables_of_their_own(runs, tmp_path):
    config = voc07()
    found = evaluation(config, 0.5, AP={"cat": 0.5})
    other = tables.read_run(workdir(tmp_path / "cats", config, metrics=found))
    assert [t.name for t in tables.per_class([*runs, other])] == ["per_class_1", "per_class_2"]


def test_the_binary_prints_and_writes_markdown_json_and_csv(paths, tmp_path):
    output = tmp_path / "tables"
    workdirs = f"--workdirs={','.join(paths)}"
    done = command_line.run("ohem_tf.tables", workdirs, f"--output={output}")
    assert done.returncode == 0
    printed = done.stdout
    assert sorted(os.listdir(output)) == [
        *("ablation.csv", "coco.csv", "overview.csv", "per_class.csv", "tables.json", "tables.md")
    ]
    page = (output / "tables.md").read_text()
    assert page in printed
    assert "recovered from memory" in page
    lines = [line for line in page.splitlines() if line.startswith("| both ")]
    cells = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert cells[:8] == [
        *("both", "OHEM N=2 VGG16 07 M B", "07 test", "0.001", "ckpt-80000", "", "75.0", "75.1")
    ]
    content = json.loads((output / "tables.json").read_text())["tables"]
    for (name, table), part in zip(content.items(), page.split("## ")[1:], strict=True):
        with open(output / f"{name}.csv", newline="") as file:
            rows = list(csv.reader(file))
        assert rows[0] == table["columns"]
        assert rows[1:] == [[str(value) for value in row] for row in table["rows"]]
        assert part.startswith(f"{table['title']}\n\n| ")
        header, rule, *lines = [line for line in part.splitlines() if line.startswith("|")]
        assert [cell.strip() for cell in header[1:-1].split("|")] == rows[0]
        assert set(rule) == {"|", "-"}
        assert len(lines) == len(table["rows"])

    done = command_line.run("ohem_tf.tables", workdirs)
    assert done.returncode == 1
    assert done.stderr == "error: give --workdirs=A,B and --output=DIR\n"


def test_runs_of_one_name_go_by_their_paths(paths, tmp_path):
    (tmp_path / "other").mkdir()
    config = voc07()
    other = workdir(tmp_path / "other" / "ohem", config, metrics=evaluation(config, 0.5))
    names = [run.name for run in tables.read_runs([paths[0], other])]
    assert names == [paths[0], other]
    assert [run.name for run in tables.read_runs(paths[:2])] == ["ohem", "frcn"]


def test_metrics_that_cannot_be_used_are_named(tmp_path):
    config = voc07()
    good = evaluation(config, 0.5)
    folder = pathlib.Path(workdir(tmp_path / "run", config, metrics=good))
    file = folder / "metrics.json"
    without = {key: value for key, value in good.items() if key != "settings"}
    detection = {k: v for k, v in good["settings"]["detection"].items() if k != "rounds"}
    cases = {
        "": "is not json",
        "[1, 2]": 'no "mAP"',
        json.dumps(without): 'no "settings"',
        json.dumps(good | {"AP": 3}): 'no "AP"',
        json.dumps(good | {"mAP": "high"}): 'no "mAP"',
        json.dumps(good | {"settings": {}}): '"settings" lacks',
        json.dumps(good | {"settings": {**good["settings"], "detection": detection}}): "'rounds'",
    }
    for content, words in cases.items():
        file.write_text(content)
        with pytest.raises(InputError, match=words) as error:
            tables.read_run(str(folder))
        assert str(file) in str(error.value)
        assert "\n" not in str(error.value)
    file.unlink()
    with pytest.raises(InputError, match=r"run/metrics\.json: No such file"):
        tables.read_run(str(folder))
    alone = tmp_path / "alone.json"
    alone.write_text(json.dumps(good))
    with pytest.raises(InputError, match=r"no config\.json beside .*alone\.json"):
        tables.read_run(str(alone))
