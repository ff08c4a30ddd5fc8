"""The cases that a person should look at: missed ones, confident errors, and labels that may be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raresight.core.predictions import Predictions
from raresight.evaluate.counts import decide
from raresight.evaluate.thresholds import threshold_array

MOST = 12
DOUBT = 0.5  # an error below this probability is no confident one


@dataclass(frozen=True)
class Failure:
    """One case: its `kind` (missed, confident, suspect) and id, the class it has, the class said instead, both scores.

    `true` is None for a false alarm of an independent label; the class said is None where nothing was.
    Scores are probabilities in [0, 1].
    """

    kind: str
    case: str
    true: str | None
    said: str | None
    true_score: float | None
    said_score: float | None


def failures(
    predictions: Predictions, *, thresholds: Mapping[str, float] | None = None, watched: Sequence[str], most: int = MOST
) -> list[Failure]:
    """At most `most` cases of each kind, the worst first; a case stands under the first kind that it fits.

    `missed`: has a class of `watched` and raises no alarm for it, at `thresholds` where the class has one, else at the
    default operating point; lowest score of the class first. `confident`: another class is said, with a probability of
    at least 0.5; highest first (independent labels: an alarm where the label is known to be absent). `suspect`
    (a label that may be wrong): the probability of a class that the case is not labelled with reaches the mean of that
    class among the cases labelled with it, and exceeds that of every class that it is labelled with; the widest gap
    first. Unknown labels are in none. An absent class misses nothing, and nothing can be mistaken for it in `suspect`.

    `predictions` `(N, K)`. Source of the last rule: Northcutt, Jiang & Chuang, Journal of AI Research 70 (2021) 1373,
    equation 2.
    """
    cases, prob = predictions.cases.astype(str), predictions.prob
    taken: set[int] = set()
    found: list[Failure] = []
    for kind, ranked in (
        ("missed", _missed(predictions, thresholds or {}, watched)),
        ("confident", _confident(predictions)),
        ("suspect", _suspect(predictions)),
    ):
        left = [row for row in ranked if row[1] not in taken][:most]
        taken |= {row[1] for row in left}
        found += [_failure(kind, cases[one[1]], predictions.task.classes, prob[one[1]], one) for one in left]
    return found


_Found = tuple[float, int, int | None, int | None]  # what to sort by, row, class it has, class said
_Ranked = list[_Found]


def _failure(kind: str, case: str, classes: Sequence[str], prob: np.ndarray, one: _Found) -> Failure:
    _, _, true, said = one
    return Failure(
        kind,
        case,
        None if true is None else classes[true],
        None if said is None else classes[said],
        None if true is None else float(prob[true]),
        None if said is None else float(prob[said]),
    )


def _missed(predictions: Predictions, thresholds: Mapping[str, float], watched: Sequence[str]) -> _Ranked:
    task, prob, target = predictions.task, predictions.prob, predictions.target
    chosen = threshold_array(thresholds, task.classes)
    alarm = np.where(np.isnan(chosen), decide(prob, task.kind), decide(prob, task.kind, chosen))
    ranked: _Ranked = []
    for k in map(task.index, watched):
        for row in np.flatnonzero((target[:, k] == 1) & ~alarm[:, k]):
            others = np.where((np.arange(task.n_classes) == k) | (target[row] == 1), -1.0, prob[row])
            said = int(others.argmax()) if others.max() > prob[row, k] else None
            ranked.append((float(prob[row, k]), int(row), k, said))
    return sorted(ranked, key=lambda one: one[:2])


def _confident(predictions: Predictions) -> _Ranked:
    prob, target = predictions.prob, predictions.target
    wrong = decide(prob, predictions.task.kind) & (target == 0) & (prob >= DOUBT)
    ranked: _Ranked = []
    for row, k in zip(*np.nonzero(wrong), strict=True):
        ranked.append((-float(prob[row, k]), int(row), _labelled(target[row], prob[row]), int(k)))
    return _once(ranked)


def _suspect(predictions: Predictions) -> _Ranked:
    prob, target = predictions.prob, predictions.target
    n = np.sum(target == 1, axis=0)
    mean = np.where(n > 0, np.where(target == 1, prob, 0.0).sum(axis=0) / np.maximum(n, 1), np.inf)
    own = np.where(target == 1, prob, 0.0).max(axis=1, initial=0.0)
    against = np.where((target == 0) & (prob >= mean[None, :]), prob, -np.inf)
    ranked: _Ranked = []
    for row in np.flatnonzero(against.max(axis=1, initial=-np.inf) > own):
        k = int(against[row].argmax())
        ranked.append((float(own[row] - prob[row, k]), int(row), _labelled(target[row], prob[row]), k))
    return _once(ranked)


def _labelled(target: np.ndarray, prob: np.ndarray) -> int | None:
    """The likeliest of the classes that a case is labelled with."""
    held = np.flatnonzero(target == 1)
    return int(held[prob[held].argmax()]) if len(held) else None


def _once(ranked: _Ranked) -> _Ranked:
    best: dict[int, _Found] = {}
    for one in sorted(ranked, key=lambda one: one[:2]):
        best.setdefault(one[1], one)
    return list(best.values())
