"""The page of a comparison, which is Markdown, as a section of a report."""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from ohem_tf.comparison import page
from ohem_tf.errors import InputError, first_line
from ohem_tf.workdir import COMPARISON

STYLE = """
.compared p:has(img) { max-width: none; }
.compared img { max-width: 100%; height: auto; border-radius: 6px; }
.compared ul { list-style: disc; padding-left: 1.25rem; max-width: 46rem; }
.compared pre { overflow-x: auto; background: var(--card); padding: .6rem; }
"""


def section_body(content: Mapping[str, Any]) -> str:
    """HTML of what `comparison.page` says of `content`, its headings one level lower.

    Raises:
      InputError: it is not what ohem_tf.compare writes.
    """
    try:
        text = page.markdown(content, "", _curves(content))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(
            f"{COMPARISON} is not what this version of ohem_tf.compare writes ({reason}); run "
            "compare again"
        ) from error
    # No HTML in it is taken for such: names in the file may hold some.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{int(token.tag[1]) + 1}"
    rendered = markdown.renderer.render(tokens, markdown.options, {})
    opening = '<div class="scroll" role="region" tabindex="0" aria-label="table"><table>'
    rendered = rendered.replace("<table>", opening).replace("</table>", "</table></div>")
    rendered = rendered.replace("<pre>", '<pre tabindex="0">')
    return f'<div class="compared">{rendered}</div>'


def _curves(content: Mapping[str, Any]) -> str:
    """The curves of the comparison as a data: URI."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "curves.png")
        page.draw(content, path)
        encoded = base64.b64encode(Path(path).read_bytes()).decode()
    return f"data:image/png;base64,{encoded}"
