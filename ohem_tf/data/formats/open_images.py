"""Open Images: a csv of boxes, a row each; XMin and the others are fractions of the image's sides.

class-descriptions*.csv, or FiftyOne's classes.csv, gives the classes of the LabelNames (/m/01yrx)
names and an order; without one the LabelName is the class. IsGroupOf 1 makes a crowd region, as
FiftyOne has it. The images of a split are those of its rows: an image without a row is not known to
be empty.

globox 2.9 is not used: it looks for a file called as the ImageID, which has no extension, follows
an ImageID out of the folder, drops IsGroupOf, and ends in a KeyError at a csv without a column.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator

from ohem_tf import names
from ohem_tf.data import checks
from ohem_tf.data.formats import folders, shapes, whole
from ohem_tf.data.listed import Listing
from ohem_tf.errors import InputError
from ohem_tf.limits import Limits

_MID = re.compile(r"^/([mgt])/(\w+)$", re.ASCII)  # of a class that nobody describes: m-01yrx
_COLUMNS = ("ImageID", "LabelName", "XMin", "YMin", "XMax", "YMax")


def is_one(path: str) -> bool:
    """Whether a file looks like a csv of boxes."""
    line = whole.head(path, 4096).partition("\n")[0]
    return set(_COLUMNS) <= {word.strip() for word in line.split(",")}


def list_split(source: whole.Source) -> Listing:
    """The images of a split; their boxes are `normalized`.

    Raises:
      InputError: as `whole.find_file` and `whole.listing`; a csv without one of the columns, or
        with
        a row of another length; a class that cannot be a file name.
    """
    file = whole.find_file(source, ".csv", is_one, "a csv with ImageID, LabelName, XMin, ...")
    described = _descriptions(source)
    objects: dict[str, list[checks.Object]] = {}
    for number, row in _rows(file.path, source.limits):
        objects.setdefault(row["ImageID"], []).append(_read_row(row, number, file.path, described))
    stated = [
        whole.Stated(image_id, tuple(found), normalized=True) for image_id, found in objects.items()
    ]
    used = {item.name for found in objects.values() for item in found}
    classes = tuple(dict.fromkeys(name for name in described.values() if name in used))
    return whole.listing(source, file, stated, classes if used <= set(classes) else ())


def _rows(path: str, limits: Limits) -> Iterator[tuple[int, dict[str, str]]]:
    """The line number of each row, and the row."""
    try:
        limits.check_size("json_mb", path)
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            lacking = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if lacking:
                raise InputError(f"{path}: has no column {lacking[0]}; expected Open Images' boxes")
            for row in reader:
                if None in row or None in row.values():
                    raise InputError(
                        f"{path}: line {reader.line_num} has more or fewer values than the first; "
                        "expected as many"
                    )
                yield reader.line_num, row
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a csv") from None
    except InputError:
        raise
    except (csv.Error, ValueError) as error:
        raise InputError(f"{path}: csv that does not parse ({error}); repair the file") from None


def _read_row(
    row: dict[str, str], number: int, path: str, described: dict[str, str]
) -> checks.Object:
    where = f"line {number}"
    label = row["LabelName"]
    name = described.get(label) or _MID.sub(r"\1-\2", label)
    shapes.check_name(name, path, where)
    sides = [row[key] for key in ("YMin", "XMin", "YMax", "XMax")]
    numbers = ", ".join(f"{key}={row[key]}"[:60] for key in _COLUMNS[2:])
    try:
        ymin, xmin, ymax, xmax = (shapes.number(side) for side in sides)
    except ValueError:
        return shapes.read(path, where, name, numbers, None)
    box = (ymin, xmin, ymax, xmax)
    return shapes.read(path, where, name, numbers, box, crowd=row.get("IsGroupOf") == "1")


def _descriptions(source: whole.Source) -> dict[str, str]:
    """{LabelName: name of the class} of a csv without a header; empty where there is none."""
    found: dict[str, str] = {}
    for relative in folders.walk(source.root, source.limits.follow_links):
        name = relative.rpartition("/")[2].lower()
        if name.endswith(".csv") and (
            name.startswith("class-descriptions") or name == "classes.csv"
        ):
            path = names.below(source.root, relative, "--root", source.limits.follow_links)
            try:
                source.limits.check_size("xml_mb", path)
                with open(path, encoding="utf-8-sig", newline="") as file:
                    rows = [row for row in csv.reader(file, strict=True) if len(row) == 2]
            except (OSError, ValueError, csv.Error) as error:
                raise InputError(f"{path}: cannot be read ({error}); expected a csv") from None
            found |= {label: text.strip() for label, text in rows if label != "LabelName"}
    return found
