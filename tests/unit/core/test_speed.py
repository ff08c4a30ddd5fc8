"""A run's speed from its history, by hand."""

from __future__ import annotations

import pytest

from raresight.core.speed import Speed, percent, speed


def line(images_per_s: float, seconds: float, **others: object) -> dict[str, object]:
    return {"phase": "representation", "images_per_s": images_per_s, "input_share": 0.0, "seconds": seconds} | others


def test_lines_count_by_their_training_seconds() -> None:
    """200/s for 1 s and 100/s for 3 s are 500 images in 4 s; an evaluation of 96 s after the first counts nothing."""
    events = [
        line(200.0, 97.0, train_seconds=1.0, input_share=0.4, share_of_peak=0.3),
        line(100.0, 3.0, train_seconds=3.0, input_share=0.0, share_of_peak=0.1),
    ]
    seen = speed(events)
    assert seen is not None
    assert seen.images_per_s == pytest.approx(125.0)
    assert seen.input_share == pytest.approx(0.1)
    assert seen.share_of_peak == pytest.approx(0.15)


def test_older_lines_know_neither_training_seconds_nor_a_share() -> None:
    seen = speed([line(200.0, 1.0), line(100.0, 3.0)])
    assert seen == Speed(125.0, None, 0.0)
    assert seen.words() == "125 images/s, 0.0% waiting for input"


def test_heads_are_not_told() -> None:
    head = {"phase": "head", "images_per_s": 90000.0, "input_share": 0.0, "train_seconds": 9.0, "seconds": 9.0}
    assert speed([head]) is None
    assert speed([]) is None
    assert speed([line(100.0, 1.0), head]) == Speed(100.0, None, 0.0)


def test_words() -> None:
    assert Speed(142.3, 0.131, 0.012).words() == "142 images/s, 13% of the measured peak, 1.2% waiting for input"
    assert Speed(1234.5, 0.994, 0.0995).words() == "1,234 images/s, 99% of the measured peak, 10% waiting for input"
    assert Speed(4.256, None, 0.0).words() == "4.26 images/s, 0.0% waiting for input"
    assert [percent(share) for share in (0.0994, 0.5)] == ["9.9%", "50%"]
