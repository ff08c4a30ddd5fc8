"""How fast a run trained, from the lines of its history: three figures and one phrase."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Speed:
    """Images a second, share of the device's measured matmul peak, and share of the time that went into input.

    Ranges: `images_per_s` > 0; `share_of_peak` >= 0, None where the peak or an image's operations are not known;
    `input_share` in [0, 1]. Time of evaluations is in none of them.
    """

    images_per_s: float
    share_of_peak: float | None
    input_share: float

    def words(self) -> str:
        """`142 images/s, 13% of the measured peak, 1.2% waiting for input`."""
        parts = [
            f"{self.images_per_s:.3g} images/s" if self.images_per_s < 100 else f"{self.images_per_s:,.0f} images/s"
        ]
        if self.share_of_peak is not None:
            parts.append(f"{percent(self.share_of_peak)} of the measured peak")
        return ", ".join([*parts, f"{percent(self.input_share)} waiting for input"])

    def as_dict(self) -> dict[str, float | None]:
        return {
            "images_per_s": self.images_per_s,
            "share_of_peak": self.share_of_peak,
            "input_share": self.input_share,
        }


def speed(events: Iterable[Mapping[str, Any]]) -> Speed | None:
    """The mean over the lines of a run, or of several, that trained the whole network, each by its training seconds.

    Equation: sum_i s_i v_i / sum_i s_i for each figure v, over the lines i that tell it. Lines of the head phase, whose
    images are features already, do not count; lines of older versions weigh by all their seconds.
    None where no line tells.
    """
    lines = [event for event in events if event.get("phase") == "representation" and event.get("images_per_s")]
    images, waits = _mean(lines, "images_per_s"), _mean(lines, "input_share")
    if images is None:
        return None
    return Speed(images, _mean(lines, "share_of_peak"), waits or 0.0)


def percent(share: float) -> str:
    """`13%`, and below 10% one digit more: `1.2%`."""
    return f"{100 * share:.0f}%" if share >= 0.0995 else f"{100 * share:.1f}%"


def _mean(lines: list[Mapping[str, Any]], figure: str) -> float | None:
    told = [
        (float(line.get("train_seconds") or line["seconds"]), line[figure]) for line in lines if _tells(line, figure)
    ]
    total = sum(seconds for seconds, _ in told)
    return sum(seconds * value for seconds, value in told) / total if total else None


def _tells(line: Mapping[str, Any], figure: str) -> bool:
    return line.get(figure) is not None and bool(line.get("train_seconds") or line.get("seconds"))
