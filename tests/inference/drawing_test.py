"""What a drawn image shows, read back from its pixels."""

import numpy as np
import pytest
from PIL import Image

from ohem_tf.errors import InputError
from ohem_tf.inference import drawing

NAMES = ("aeroplane", "dog", "person")


def blank(height=240, width=320):
    return np.full((height, width, 3), 128, np.uint8)


def draw(boxes, scores, classes, image=None):
    image = blank() if image is None else image
    drawn = drawing.draw_detections(
        image, np.float32(boxes), np.float32(scores), np.int32(classes), NAMES
    )
    assert drawn.mode == "RGB"
    assert drawn.size == image.shape[1::-1]
    return np.asarray(drawn)


def test_the_outline_lies_on_the_box_and_the_label_above_it():
    image = blank()
    found = draw([[100, 50, 200, 150]], [0.87], [1], image)
    changed = (found != 128).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert abs(rows.max() - 199) <= 1
    assert abs(columns.min() - 50) <= 1
    assert changed[150, 50] or changed[150, 49]
    assert changed[150, 149] or changed[150, 150]
    assert not changed[110:190, 60:140].any()  # inside stays as it was
    assert rows.min() < 95  # the label
    assert (image == 128).all()  # a copy was drawn on


def test_classes_have_colours_of_their_own_and_higher_scores_lie_on_top():
    box = [40, 60, 200, 200]
    alone = [draw([box], [0.5], [k]) for k in (1, 2)]
    assert tuple(alone[0][120, 60]) != tuple(alone[1][120, 60])
    both = draw([box, box], [0.9, 0.4], [1, 2])
    assert tuple(both[120, 60]) == tuple(alone[0][120, 60])


def test_no_detection_leaves_the_image():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    np.testing.assert_array_equal(draw(np.zeros((0, 4)), [], [], image), image)


@pytest.mark.parametrize("box", [[-20, -20, 500, 500], [10, 10, 10, 10], [0, 0, 1, 1]])
@pytest.mark.parametrize("side", [8, 64, 1500])
def test_any_box_on_any_image(box, side):
    draw([box], [0.5], [3], blank(side, side))


def test_a_page_holds_every_image_in_its_order():
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (99, 99, 0), (0, 99, 99)]
    images = [Image.new("RGB", (50 + 10 * i, 40), color) for i, color in enumerate(colors)]
    page = np.asarray(drawing.contact_sheet(images, columns=2, cell=(60, 50)))
    assert page.shape == (3 * 58 + 8, 2 * 68 + 8, 3)
    for i, color in enumerate(colors):
        row, column = divmod(i, 2)
        assert tuple(page[8 + 58 * row + 25, 8 + 68 * column + 30]) == color
    with pytest.raises(InputError, match="at least one image"):
        drawing.contact_sheet([])
