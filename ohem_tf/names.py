"""Names that files bring along: image ids, file names and class names, checked where they enter.

They come from whoever made a data set, and end up in paths, in lines of text and on a terminal. So
none of them may lead out of the folder that the user named, hold a control character, or be
impossible as (a part of) a file name.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from ohem_tf.errors import InputError

# Categories of characters that are no text: control, format (they can reverse what a terminal
# shows), halves of surrogate pairs (UTF-8 has none), separators of lines and paragraphs.
_NO_TEXT = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # format characters that some languages spell with
_MOST_BYTES = 180  # of a class name: a file name of 255 bytes holds more


def _is_text(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in _NO_TEXT


def is_text(name: object) -> bool:
    """Whether `name` is a str, not empty, of characters that can be shown and written."""
    return isinstance(name, str) and bool(name) and all(map(_is_text, name))


def check_image_id(image_id: str, where: str) -> None:
    """Raises InputError unless an id is one word, and can be a path below a folder."""
    if not is_text(image_id) or image_id.split() != [image_id] or not _is_below(image_id):
        raise InputError(
            f"{where}: {image_id!r} is no image id; expected one word, such as '000012', without "
            "control characters and '..'"
        )


def check_class(name: str, where: str) -> None:
    """Raises InputError, which suggests the nearest, unless a class name can be a file name."""
    nearest = _nearest(name)
    if name != nearest:
        raise InputError(
            f"{where}: the class name {_shown(name)} cannot be a file name, as in detections for "
            f"the VOC server; expected {nearest!r}, say"
        )


def check_classes(names: Iterable[str], flag: str) -> None:
    """`check_class` of each of `--flag`, and InputError if there is none or one stands twice."""
    names = tuple(names)
    for name in names:
        check_class(name, f"--{flag}")
    if not names or len(set(names)) < len(names):
        raise InputError(f"--{flag}={','.join(names)}: expected each name once")


def below(
    folder: str | os.PathLike[str], name: str, where: str, follow_links: bool = False
) -> Path:
    """The path of a file that a data set names.

    Args:
      folder: that the user gave; the file must lie in it, or below it.
      name: relative to `folder`.
      where: the name comes from, for messages.
      follow_links: the file may be a link, or behind one, that leads out of `folder`.

    Raises:
      InputError: the name leads out of `folder`, or is no name of a file.
    """
    if not is_text(name) or not _is_below(name):
        raise InputError(
            f"{where}: {_shown(name)} is no file name below {folder}; expected a relative path "
            "without control characters and '..'"
        )
    path = Path(folder, name)
    if not follow_links:
        real, root = os.path.realpath(path), os.path.realpath(folder)
        if os.path.commonpath((real, root)) != root:
            raise InputError(
                f"{where}: {path} is a link that leads out of {folder}, to {real}; expected a file "
                "there (--follow_links takes what links lead to)"
            )
    return path


def _is_below(name: str) -> bool:
    return not os.path.isabs(name) and ".." not in Path(name).parts


def _nearest(name: object) -> str:
    """The file name that is nearest to `name`: itself, if it can be one."""
    text = "".join(c if _is_text(c) else " " for c in name) if isinstance(name, str) else str(name)
    text = text.replace("/", "-").replace("\\", "-").strip()
    text = text.encode()[:_MOST_BYTES].decode(errors="ignore").strip()
    return text if text.strip(".") else "unnamed"


def _shown(name: object, most: int = 80) -> str:
    text = repr(name)
    return text if len(text) <= most else f"{text[:most]}..."
