"""Reads xml that strangers wrote.

Python's parser is expat, which loads no file that an xml names and refuses entities that expand to
much more than the file (tests/data/xml_file_test.py asks it).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from ohem_tf.errors import InputError
from ohem_tf.limits import DEFAULT, Limits

_DAMAGE = (ET.ParseError, ValueError, LookupError)


def read(path: str, root: str, missing: str, limits: Limits = DEFAULT) -> ET.Element:
    """The tree of an xml file.

    Args:
      path: the file.
      root: the tag that its root must have.
      missing: what a message says if there is no such file.
      limits: on its size (`xml_mb`).

    Raises:
      InputError: no file, one that is too large or does not parse, another root.
    """
    try:
        limits.check_size("xml_mb", path)
        tree = ET.parse(path).getroot()
    except OSError:
        raise InputError(f"{path}: {missing}") from None
    except InputError:
        raise
    except _DAMAGE as error:
        raise _damaged(path, error) from None
    if tree.tag != root:
        raise InputError(f"{path}: its root is <{tree.tag}>; expected <{root}>")
    return tree


def children(path: str, root: str, limits: Limits = DEFAULT) -> Iterator[ET.Element]:
    """The children of an xml's root, one at a time, each emptied when the next is asked for.

    Args:
      path: the file.
      root: the tag that its root must have.
      limits: on its size (`json_mb`: it is of a whole split).

    Raises:
      InputError: as `read`, when the trouble is reached.
    """
    try:
        limits.check_size("json_mb", path)
        top, depth = None, 0
        for event, element in ET.iterparse(path, ("start", "end")):
            depth += 1 if event == "start" else -1
            if top is None:
                top = element
                if top.tag != root:
                    raise InputError(f"{path}: its root is <{top.tag}>; expected <{root}>")
            if event == "end" and depth == 1:
                yield element
                top.clear()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected xml") from None
    except InputError:
        raise
    except _DAMAGE as error:
        raise _damaged(path, error) from None


def _damaged(path: str, error: Exception) -> InputError:
    return InputError(f"{path}: xml that does not parse ({error}); repair the file")
