"""VOC xml and images without ImageSets, as LabelImg and Roboflow write them.

LabelImg puts the xml beside the image, Roboflow in train/, valid/ and test/, others in annotations/
and images/; folders.py says which belong together. The file's name decides, not <filename>.

Corners are read as VOC's, counted from 1 and inclusive (voc.py). LabelImg writes points of a plane,
in whole numbers of 1 or more: its boxes come out a pixel larger at the left and at the top. The
files do not tell one from the other.

globox 2.9 is not used: it takes VOC's corners for points of a plane (a pixel off, and xmax = xmin,
a pixel wide, for an empty box), ignores <difficult>, and trusts <filename>.
"""

from __future__ import annotations

from pathlib import Path

from ohem_tf.data import checks, voc
from ohem_tf.data.formats import folders, pairs
from ohem_tf.data.listed import Labelled, Listing
from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT, Limits


def read(image: Labelled, limits: Limits = DEFAULT) -> checks.Entry:
    """The entry of an image with its xml.

    Raises:
      InputError: as `voc.read_annotation`.
    """
    assert image.annotation  # `list_split` leaves out what has none
    return voc.read_annotation(pairs.entry(image), image.annotation, limits)


def list_split(root: str, split: str, alone: bool, limits: Limits = DEFAULT) -> Listing:
    """The images of a split; see `pairs.pair`. One without an xml is a problem.

    Raises:
      InputError: as `folders.scan` and `pairs.pair`; folders in it have ImageSets.
    """
    devkits = [path.parents[1] for path in sorted(Path(root).glob("*/ImageSets/Main"))]
    if devkits:
        raise InputError(
            f"{root}: no ImageSets/Main there, but in {', '.join(map(str, devkits))}; expected "
            "--root with one of them"
        )
    return pairs.pair(
        folders.scan(root, ".xml", limits),
        split,
        alone,
        read,
        limits,
        unlabelled="has no xml, so nobody has said what is in it; expected one of the same name "
        "(without <object>, if the image has no object)",
    )
