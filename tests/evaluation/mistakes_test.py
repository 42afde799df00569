"""Mistakes by hand; the types of false detections as TIDE counts them."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from ohem_tf.evaluation import error_types, mistakes

CAT, DOG = 1, 2
LEFT, RIGHT, FAR = (0, 0, 10, 10), (0, 20, 10, 30), (50, 50, 60, 60)
OFF = (0, 0, 10, 4)  # IoU 0.4 with LEFT


def truth(*objects, difficult=()):
    """Objects (box, class) of an image; `difficult`: their numbers."""
    return {
        "boxes": np.float64([box for box, _ in objects]).reshape(-1, 4),
        "classes": np.int64([label for _, label in objects]),
        "difficult": np.array([i in difficult for i in range(len(objects))], bool),
    }


def found(*detections):
    """Detections (box, class, score) in an image."""
    return {
        "boxes": np.float64([box for box, _, _ in detections]).reshape(-1, 4),
        "classes": np.int64([label for _, label, _ in detections]),
        "scores": np.float64([score for *_, score in detections]),
    }


def test_confusion_by_hand():
    images = [truth((LEFT, CAT), (RIGHT, DOG)), truth((LEFT, CAT), (FAR, DOG), difficult=(1,))]
    guesses = [
        # Both objects found, the dog as a cat; and the cat a second time.
        found((LEFT, CAT, 0.9), (RIGHT, CAT, 0.8), ((0, 0, 10, 9), CAT, 0.7)),
        # A poor box, one on a difficult object, one too uncertain.
        found((OFF, CAT, 0.9), (FAR, DOG, 0.9), (LEFT, CAT, 0.3)),
    ]
    matrix = mistakes.confusion(images, guesses, 2, 0.5, 0.5)
    assert matrix.tolist() == [[0, 2, 0], [1, 1, 0], [0, 1, 0]]
    # Rows hold the objects that count, columns the detections that count.
    assert matrix[1:].sum(axis=1).tolist() == [2, 1]
    assert matrix[:, 1:].sum(axis=0).tolist() == [4, 0]
    certain = mistakes.confusion(images, guesses, 2, 0.5, 0.0)
    assert certain.tolist() == [[0, 2, 0], [0, 2, 0], [0, 1, 0]]


def test_a_false_detection_takes_the_nearest_object_that_is_left():
    images = [truth((LEFT, DOG), ((0, 3, 10, 13), DOG))]
    guesses = [found((LEFT, CAT, 0.9), (LEFT, CAT, 0.8), (LEFT, CAT, 0.7))]
    # The second one's IoU with the object that is left is 70 / 130; then there is none.
    assert mistakes.confusion(images, guesses, 2, 0.5, 0.0).tolist() == [
        *([0, 1, 0], [0, 0, 0], [0, 2, 0])
    ]


@pytest.mark.parametrize(
    ("detection", "kind", "beside", "iou"),
    [
        ((OFF, CAT), "Loc", CAT, 0.4),
        ((RIGHT, CAT), "Cls", DOG, 1.0),
        (((0, 20, 10, 24), CAT), "Both", DOG, 0.4),
        ((LEFT, CAT), "Dupe", CAT, 1.0),
        ((FAR, CAT), "Bkg", None, 0.0),
        (((0, 0, 10, 0.5), CAT), "Bkg", None, 0.0),
    ],
)
def test_the_type_of_a_false_detection(detection, kind, beside, iou):
    images = [truth((LEFT, CAT), (RIGHT, DOG))]
    (mistake,) = mistakes.false_positives(
        images, [found((LEFT, CAT, 0.99), (*detection, 0.7))], 0.5, 5
    )
    assert (mistake.kind, mistake.what.score, mistake.what.label) == (kind, 0.7, CAT)
    assert mistake.iou == pytest.approx(iou)
    assert (mistake.beside and mistake.beside.label) == beside


def test_a_difficult_object_explains_no_false_detection():
    images = [truth((LEFT, DOG), difficult=(0,))]
    (mistake,) = mistakes.false_positives(images, [found((LEFT, CAT, 0.7))], 0.5, 5)
    assert (mistake.kind, mistake.beside) == ("Bkg", None)


def test_the_types_are_those_that_tide_counts():
    rng = np.random.default_rng(0)
    images, guesses = [], []

    def far():
        return 100 * (rng.random() < 0.15)

    for _ in range(60):
        corner, side = rng.uniform(20, 60, 2), rng.uniform(40, 60, 2)
        box, label = np.concatenate([corner, corner + side]), int(rng.integers(1, 4))
        images.append(truth((box, label)))
        rows = [
            (
                box + rng.normal(0, 12, 4) + far(),
                label if rng.random() < 0.6 else int(rng.integers(1, 4)),
            )
            for _ in range(int(rng.integers(1, 5)))
        ]
        scores = rng.permutation(100)[: len(rows)] / 100
        guesses.append(found(*((*row, score) for row, score in zip(rows, scores, strict=True))))
    errors, _ = error_types.analyse(images, guesses)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mistakes, "PER_IMAGE", 99)
        shown = mistakes.false_positives(images, guesses, 0.5, 999)
    counts = collections.Counter(mistake.kind for mistake in shown)
    counts["Miss"] = errors.counts["Miss"]
    assert counts == collections.Counter(errors.counts)
    assert min(counts[kind] for kind in ("Cls", "Loc", "Both", "Dupe", "Bkg")) > 3
    scores = [mistake.what.score for mistake in shown]
    assert scores == sorted(scores, reverse=True)


def test_what_is_missed_and_what_is_seen_there():
    images = [truth((LEFT, CAT), (FAR, DOG)), truth(((0, 0, 40, 40), DOG), (FAR, CAT))]
    guesses = [
        found((LEFT, CAT, 0.2), ((0, 0, 10, 9), DOG, 0.8), (FAR, DOG, 0.9)),
        found(((0, 0, 40, 18), DOG, 0.6)),
    ]
    nothing, poor, low = mistakes.misses(images, guesses, 0.5, 0.5, 9)
    # Found by nothing, the largest first; the one with a low score last.
    assert (nothing.what.box, nothing.beside.score) == ((0, 0, 40, 40), 0.6)
    assert nothing.iou == pytest.approx(0.45)
    assert (poor.what.box, poor.beside, poor.iou) == (FAR, None, 0)
    assert low.image == 0
    assert (low.what.label, low.beside.label, low.beside.score) == (CAT, DOG, 0.8)
    assert low.iou == pytest.approx(0.9)
    assert len(mistakes.misses(images, guesses, 0.5, 0.5, 1)) == 1
    # At any score: the cat that was found with 0.2 is none of them.
    assert [m.image for m in mistakes.misses(images, guesses, 0.5, 0.0, 9)] == [1, 1]


def test_a_detection_of_another_object_is_no_answer_to_a_miss():
    near = (0, 2, 10, 12)  # IoU 2/3 with LEFT
    images = [truth((LEFT, CAT), (near, DOG))]
    (miss,) = mistakes.misses(images, [found((LEFT, CAT, 0.9))], 0.5, 0.5, 9)
    assert (miss.what.label, miss.beside) == (DOG, None)


def test_difficult_objects_are_not_missed_and_one_image_does_not_fill_the_list():
    images = [truth(*[((20 * i, 0, 20 * i + 9, 9), CAT) for i in range(5)], difficult=(0, 1))]
    assert len(mistakes.misses(images, [found()], 0.5, 0.5, 9)) == mistakes.PER_IMAGE
    sizes = truth(*[((20 * i, 0, 20 * i + 9, 5 + i), CAT) for i in range(4)])
    shown = mistakes.misses([sizes], [found()], 0.5, 0.5, 9)
    assert [miss.what.box[3] for miss in shown] == [8, 7]
    many = found(*[((0, 20 * i, 9, 20 * i + 9), DOG, 0.5) for i in range(5)])
    assert len(mistakes.false_positives(images, [many], 0.5, 9)) == mistakes.PER_IMAGE


def test_scores_of_objects():
    images = [truth((LEFT, CAT), (RIGHT, DOG)), truth()]
    scores = mistakes.scores_of_objects(
        images, [found((RIGHT, DOG, 0.4), (RIGHT, DOG, 0.3)), found()], 0.5
    )
    assert [found.tolist() for found in scores] == [[-1, 0.4], []]
