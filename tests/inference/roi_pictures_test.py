"""What a picture of hard mining shows, read back from its pixels."""

import numpy as np
import pytest

from ohem_tf.inference.detection import Detections
from ohem_tf.inference.roi_pictures import Mined, draw_mining

NAMES = ("cat", "dog")
SIDE, TITLE, GAP = 400, 20, 6  # a panel of a 400 x 300 image, in pixels of the page
GREY = 128


def draw(boxes, losses, labels, selected, left_out=(), found=((), (), ()), size=(300, 400)):
    image = np.full((*size, 3), GREY, np.uint8)
    before = image.copy()
    mined = Mined(
        np.float32(boxes).reshape(-1, 4),
        np.int32(labels),
        np.float32(losses),
        np.int32(selected),
        np.int32(left_out),
    )
    detections = Detections(
        np.float32(found[0]).reshape(-1, 4), np.float32(found[1]), np.int32(found[2])
    )
    page = draw_mining(image, mined, detections, NAMES, SIDE)
    np.testing.assert_array_equal(image, before)
    assert page.mode == "RGB"
    return np.asarray(page).astype(int)


def panel(page, number, width=SIDE, height=300):
    left = number * (width + GAP)
    return page[TITLE : TITLE + height, left : left + width]


def test_each_panel_has_its_boxes_and_nothing_else():
    boxes = [[20, 20, 80, 80], [100, 100, 200, 200], [210, 300, 280, 380], [30, 200, 90, 290]]
    page = draw(
        boxes,
        losses=[4.0, 2.0, 3.0, 0.0],
        labels=[0, 1, 0, 0],
        selected=[0, 1],
        left_out=[2],
        found=([[100, 100, 200, 200]], [0.9], [1]),
    )
    assert page.shape == (TITLE + 300 + 22, 3 * SIDE + 2 * GAP, 3)
    everything, hard, found = (panel(page, i) for i in range(3))
    corners = [(y, x) for y, x, _, _ in boxes]
    changed = [[tuple(p[y, x]) != (GREY,) * 3 for y, x in corners] for p in (everything, hard)]
    assert changed == [[True] * 4, [True, True, True, False]]
    assert tuple(hard[20, 20]) == (205, 0, 0)  # background of the highest loss
    red, _, blue = hard[100, 100]
    assert blue > red  # foreground
    assert len(set(hard[210, 300])) == 1  # grey
    for y, x, bottom, right in boxes:  # inside stays as it was
        for p in (everything, hard):
            assert np.all(p[y + 4 : bottom - 4, x + 4 : right - 4] == GREY)
    rows, columns = np.nonzero((found != GREY).any(axis=2))
    assert (rows.max(), columns.min()) == (199, 100)
    rows, columns = np.nonzero((hard[:90, :90] != GREY).any(axis=2))
    assert abs(rows.max() - 79) <= 1
    assert abs(columns.max() - 79) <= 1
    assert min(rows.min(), columns.min()) >= 19


def test_a_higher_loss_has_a_darker_shade_and_lies_on_top():
    box, apart = [50, 50, 150, 150], [160, 160, 260, 260]
    easy = [10, 200, 60, 300]
    losses = [5.0, 0.5, 0.02, 0.02, 0.0]
    page = draw([box, apart, box, easy, [200, 10, 290, 90]], losses, [0] * 5, [0, 1, 2, 3, 4])
    hard = panel(page, 1)
    assert tuple(hard[50, 50]) == (205, 0, 0)
    assert tuple(hard[200, 10]) == (255, 240, 150)
    greens = hard[50, 50, 1], hard[160, 160, 1], hard[10, 200, 1], hard[200, 10, 1]
    assert greens == tuple(sorted(greens))
    assert len(set(greens)) == 4


def test_boxes_follow_the_size_of_the_panel():
    page = draw([[10, 20, 40, 60]], [1.0], [0], [0], size=(75, 100))
    rows, columns = np.nonzero((panel(page, 1) != GREY).any(axis=2))
    expected = 40, 159, 80, 239  # four times as large
    found = rows.min(), rows.max(), columns.min(), columns.max()
    np.testing.assert_allclose(found, expected, atol=1)


@pytest.mark.parametrize("size", [(1, 1), (8, 500), (900, 40), (96, 128)])
def test_any_image_and_any_rois(size):
    draw([], [], [], [], size=size)
    draw([[0, 0, 0, 0]], [0.0], [0], [], size=size)
    boxes = [[-9, -9, 2000, 2000], [0, 0, 1, 1], [5, 5, 5, 5], [0, 0, 9, 9]]
    losses = [np.nan, np.inf, -np.inf, 50.0]
    found = ([[-5, 0, 9000, 3]], [1.0], [2])
    draw(boxes, losses, [0, 1, 2, 0], [0, 1], [2, 3], found, size)
