"""A bundle at work, whatever for: pictures to logits, units to decisions. Nothing here is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from raresight.core.bundle import Bundle
from raresight.core.extras import need
from raresight.core.predictions import Predictions, tabulate
from raresight.core.progress import Silent
from raresight.evaluate.calibration import log_odds


@dataclass(frozen=True)
class Seen:
    """What became of pictures `(N,)`: `usable`, the `reason` of those that are not, what was `converted` in the others;
    `logits` `(n usable, K)` before the calibrator."""

    logits: np.ndarray
    usable: np.ndarray
    reason: np.ndarray
    converted: np.ndarray


def see(bundle: Bundle, images: Sequence[str], root: Path, progress: Silent) -> Seen:
    """Prepare and predict pictures; one that cannot be used never loses the rest."""
    need("torch", extra="train", feature="predicting with a bundle")
    from raresight.data.incoming import Rules, in_stretches
    from raresight.train.deployed import Networks, joined

    facts = bundle.facts["image"]
    rules = Rules(facts["size"], facts["channels"], facts["dtype"], facts["smallest_side"])
    networks, parts, arrived = Networks.open(bundle), [], []
    with progress.bar("pictures") as advance:
        for stretch in in_stretches(images, root, rules):
            pixels = [one.pixels for one in stretch if one.pixels is not None]
            if pixels:
                parts.append(networks.logits(np.stack(pixels)))
            arrived += [(one.pixels is not None, one.reason, one.converted) for one in stretch]
            advance(len(arrived), len(images))
    logits = mean_logits(bundle, joined(parts, bundle.task.n_classes))
    usable, reason, converted = (list(column) for column in zip(*arrived, strict=True)) if arrived else ([], [], [])
    return Seen(logits, np.array(usable, bool), np.array(reason, object), np.array(converted, object))


def mean_logits(bundle: Bundle, logits: Sequence[np.ndarray]) -> np.ndarray:
    """Logits of the mean probability of several networks; those of a single one as they are."""
    if len(logits) == 1:
        return logits[0]
    task, n = bundle.task, len(logits[0])
    nobody, unknown = np.arange(n), np.full((n, task.n_classes), np.nan)
    probs = [
        Predictions(tabulate(task, nobody, one, unknown, pd.DataFrame(index=range(n))), task).prob for one in logits
    ]
    return log_odds(np.mean(probs, axis=0), task.kind)


def per_unit(bundle: Bundle, predictions: Predictions) -> Predictions:
    """One row a decision unit, by the bundle's own aggregation."""
    from raresight.evaluate.units import aggregate

    column = bundle.unit_column
    return predictions if column is None else aggregate(predictions, column, bundle.facts["decision"]["aggregate"])


@dataclass(frozen=True)
class Decided:
    """Units `(N,)` at the frozen operating point: `calibrated` predictions, `alarm` `(N, K)`, and why a unit is
    `referred` to a human, empty text where it is not."""

    calibrated: Predictions
    alarm: np.ndarray
    referred: np.ndarray


def decide(bundle: Bundle, units: Predictions) -> Decided:
    """Calibrate, hold against the thresholds, and refer what the frozen rules refer."""
    from raresight.evaluate.counts import decide as alarms
    from raresight.evaluate.counts import threshold_array
    from raresight.evaluate.recalibrate import calibrate
    from raresight.evaluate.referral import handed_over

    calibrated = calibrate(units, bundle.calibrator)
    prob, task = calibrated.prob, bundle.task
    referred = handed_over(prob, bundle.operating, task)
    return Decided(calibrated, alarms(prob, task.kind, threshold_array(bundle.thresholds, task.classes)), referred)
