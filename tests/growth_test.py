"""benchmarks.growth: the page's ratios, to Fast R-CNN with as many proposals."""

from benchmarks import growth


def test_ratios_of_the_page():
    def row(seconds, peak):
        return {"seconds": seconds, "peak_bytes": peak}

    results = {
        2000: {"FRCN": row([1.0, 2.0], 2e9), "OHEM": row([2.0, 3.0], 3e9)},
        4000: {"FRCN": row([2.0, 2.0], 4e9), "OHEM": row([4.0, 6.0], 5e9)},
    }
    page = growth.page(results, {"rounds": 2}, "# Title")
    assert "| 2000 | OHEM | 2.500 | 1.75 | 1.50 to 2.00 | 3.00 | 1.50 |" in page
    assert "| 4000 | FRCN | 2.000 | 1.00 | 1.00 to 1.00 | 4.00 | 1.00 |" in page
    assert "| 4000 | OHEM | 5.000 | 2.50 | 2.00 to 3.00 | 5.00 | 1.25 |" in page
