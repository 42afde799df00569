"""benchmarks.end_to_end: turns, and the page's ratios."""

from benchmarks import end_to_end


def test_detectors_take_turns_and_the_first_images_do_not_count():
    calls = []

    class Detector:
        def __init__(self, name):
            self._name = name

        def detect(self, path):
            calls.append((self._name, path))

    seconds = end_to_end.measure({"a": Detector("a"), "b": Detector("b")}, ["1", "2", "3", "4"])
    assert calls == [(name, path) for path in "1234" for name in "ab"]
    assert {name: len(x) for name, x in seconds.items()} == {"a": 2, "b": 2}


def test_ratios_of_the_page_are_to_the_first():
    page = end_to_end.page({"a": [0.1, 0.2], "b": [0.5, 0.8]}, {"images": 2}, "# Title")
    assert page.startswith("# Title\n")
    rows = [" ".join(line.split()) for line in page.splitlines()]
    assert "| a | 0.150 | **1.00** | 1.00 to 1.00 |" in rows
    assert "| b | 0.650 | **4.50** | 4.00 to 5.00 |" in rows
