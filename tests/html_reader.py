"""HTML as the tests of pages look at it."""

from __future__ import annotations

import html.parser

VOID = {"meta", "img"}


class Reader(html.parser.HTMLParser):
    """Collects tags and attributes; unbalanced ones are an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def check_whole(self):
        """Nothing from outside, no script, every link leads somewhere, every picture has a text."""
        assert not self.all("script")
        assert not self.all("link")
        for attributes in self.all("img"):
            assert attributes["alt"]
            assert attributes["src"].startswith("data:image/")
        ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        assert {attributes["href"] for attributes in self.all("a")} <= {f"#{name}" for name in ids}
        assert self.all("html") == [{"lang": "en"}]
