"""The picture and the table of losses over the steps of runs."""

import pytest
from matplotlib.image import imread

from ohem_tf.errors import InputError
from ohem_tf.evaluation import loss_curves


def test_plot_and_table(tmp_path):
    point = {"cls": 0.3, "box": 0.1, "rois": 100, "images": 5}
    results = {
        "runs/frcn": [{"step": s, "loss": 0.4 + 1 / s, **point} for s in (10, 20)],
        "runs/ohem": [{"step": 20, "loss": 0.4, **point}],
    }
    path = tmp_path / "pictures" / "roi_loss.png"
    loss_curves.check_plot(str(path))
    loss_curves.plot(results, str(path))
    picture = imread(path)
    assert picture.shape[0] > 100
    assert picture[..., :3].std() > 0.01
    lines = loss_curves.table(results).splitlines()
    assert lines[2].split() == ["runs/frcn", "10", "0.5000", "0.3000", "0.1000"]
    assert "100 RoIs of 5 images" in lines[-1]


@pytest.mark.parametrize("name", ["plot", "plot.jpgg", "folder.png"])
def test_a_plot_that_cannot_be_written_is_refused(tmp_path, name):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="--output"):
        loss_curves.check_plot(str(tmp_path / name))
