"""What a drawn picture shows, read back from its pixels."""

import numpy as np
import pytest
from PIL import Image

from ohem_tf.errors import InputError
from ohem_tf.inference import drawing

NAMES = [f"class {i}" for i in range(1, 81)]


def blank(height=240, width=320):
    return np.full((height, width, 3), 128, np.uint8)


def mask(picture, color):
    return (np.asarray(picture) == color).all(axis=2)


def test_box_lies_where_it_should():
    picture = drawing.draw_detections(blank(), [[100, 50, 200, 150]], [0.9], [3], NAMES)
    assert picture.mode == "RGB"
    assert picture.size == (320, 240)
    rows, columns = np.nonzero(mask(picture, drawing.class_color(3)))
    # The box, half-open, with its tag above and not below or left of it.
    assert rows.max() == 199
    assert columns.max() == 149
    assert rows.min() < 100
    assert columns.min() in (49, 50)
    pixels = np.asarray(picture)
    for y, x in [(150, 50), (150, 149), (199, 100)]:
        assert tuple(pixels[y, x]) == drawing.class_color(3)
    assert (pixels[110:190, 60:140] == 128).all()  # inside stays as it was
    assert (pixels[202:] == 128).all()


def test_no_detection_leaves_the_image():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 80, 3), np.uint8)
    picture = drawing.draw_detections(image, np.zeros((0, 4)), [], [], NAMES)
    np.testing.assert_array_equal(np.asarray(picture), image)


def test_input_is_not_changed():
    image, pil = blank(), Image.fromarray(blank())
    for source in (image, pil):
        drawing.draw_detections(source, [[10, 10, 90, 90]], [0.5], [1], NAMES)
        assert (np.asarray(source) == 128).all()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_any_pil_mode(mode):
    image = Image.new(mode, (64, 48))
    assert drawing.draw_detections(image, [[5, 5, 40, 40]], [0.5], [1], NAMES).mode == "RGB"


@pytest.mark.parametrize(
    "box",
    [
        [0, 0, 240, 320],  # whole picture
        [0, 250, 30, 320],  # top right corner: the tag is wider than the box
        [200, 0, 240, 10],
        [100, 315, 110, 320],
        [-20, -30, 20, 30],  # partly outside
        [225, 290, 260, 400],
        [50, 60, 50, 60],  # no area
    ],
)
def test_tag_is_wholly_inside(box):
    """The tag's colour must fill as many pixels as it does in the middle of the picture."""

    def tag_pixels(where):
        picture = drawing.draw_detections(blank(), [where], [0.87], [2], NAMES)
        filled = np.pad(mask(picture, drawing.class_color(2)), 1)
        # Lines are one pixel wide here, so only a tag fills 3 x 3 pixels.
        windows = np.lib.stride_tricks.sliding_window_view(filled, (3, 3))
        return int(windows.all(axis=(2, 3)).sum())

    middle = tag_pixels([120, 160, 120, 160])  # no area, so no line beside the tag
    assert middle > 100
    assert tag_pixels(box) >= middle


def test_tags_of_equal_boxes_do_not_cover_each_other():
    boxes = [[100, 100, 200, 250]] * 4
    together = drawing.draw_detections(blank(), boxes, [0.9, 0.8, 0.7, 0.6], [1, 2, 3, 4], NAMES)
    for class_id in (1, 2, 3, 4):
        # Letters included, each tag is seen: 4 places are free.
        assert mask(together, drawing.class_color(class_id)).sum() > 300


def test_higher_score_lies_on_top_whatever_the_order():
    for order in ([0, 1], [1, 0]):
        scores, classes = np.array([0.2, 0.9])[order], np.array([1, 2])[order]
        picture = drawing.draw_detections(blank(), [[50, 50, 150, 150]] * 2, scores, classes, NAMES)
        assert tuple(np.asarray(picture)[149, 100]) == drawing.class_color(2)
        assert tuple(np.asarray(picture)[48, 51]) == drawing.class_color(2)  # its tag is above


def test_lines_and_letters_grow_with_the_image():
    def thickness(side):
        box = [[side // 4, side // 4, side // 2, side // 2]]
        picture = drawing.draw_detections(blank(side, side), box, [0.9], [1], NAMES)
        filled = mask(picture, drawing.class_color(1))
        return filled[3 * side // 8, side // 4 :].argmin(), filled[: side // 4].any(axis=1).sum()

    small, large = thickness(160), thickness(1600)
    assert small[0] == 1
    assert large[0] >= 6
    assert large[1] > 2.5 * small[1]


def test_colors_are_stable_and_distinct():
    colors = [drawing.class_color(i) for i in range(1, 81)]
    assert len(set(colors)) == 80
    for near in range(1, 6):
        for a, b in zip(colors, colors[near:], strict=False):
            assert np.abs(np.subtract(a, b)).sum() > 60
    assert drawing.class_color(7) == drawing.class_color(7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((blank().astype(np.float32), [], [], [], NAMES), "image is float32"),
        ((blank()[..., 0], [], [], [], NAMES), "must be uint8"),
        ((blank(), [[1, 2, 3, 4]], [0.5], [], NAMES), "1 boxes, 1 scores and 0 classes"),
        ((blank(), [[1, 2, 3, 4]], [0.5], [0], NAMES), "class 0 has no name"),
        ((blank(), [[1, 2, 3, 4]], [0.5], [81], NAMES), "class 81 has no name"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        drawing.draw_detections(*arguments)


def test_contact_sheet_places_every_picture():
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200)]
    sizes = [(320, 240), (100, 100), (640, 100), (60, 300), (10, 10)]
    pictures = [Image.new("RGB", s, c) for s, c in zip(sizes, colors, strict=True)]
    page = drawing.contact_sheet(pictures, columns=2, cell_width=120, margin=8)
    assert page.width == 2 * 120 + 3 * 8
    for i, (color, (width, height)) in enumerate(zip(colors, sizes, strict=True)):
        rows, columns = np.nonzero(mask(page, color))
        cell_left = 8 + (i % 2) * 128
        assert cell_left <= columns.min()
        assert columns.max() < cell_left + 120
        seen = (np.ptp(columns) + 1, np.ptp(rows) + 1)
        scale = min(120 / width, 160 / height)
        assert seen == pytest.approx((width * scale, height * scale), abs=1)
    tops = [np.nonzero(mask(page, color))[0].min() for color in colors]
    assert tops[0] < tops[2] < tops[4]


def test_contact_sheet_of_one_picture_is_one_column_wide():
    page = drawing.contact_sheet([Image.new("RGB", (100, 50))], 4, cell_width=100, margin=10)
    assert page.size == (120, 70)


def test_contact_sheet_bad_input():
    picture = Image.new("RGB", (10, 10))
    with pytest.raises(InputError, match="at least one picture"):
        drawing.contact_sheet([], 3)
    with pytest.raises(InputError, match=r"columns \(0\)"):
        drawing.contact_sheet([picture], 0)
