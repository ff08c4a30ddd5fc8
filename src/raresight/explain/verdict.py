"""Score and look joined: what a change of arm did to a class, in one of four flags, and whether maps beat chance.

The rule, for one class and arm against the baseline, at alpha = .05. Two families are adjusted by Holm over class x
metric x arm: **score** (AUROC, AP) and **look** (chance-corrected alignment at the chosen layer, alignment at the last
layer, detectors). d′ of the logits stands beside them and raises no flag: it is computed from the very logits that
AUROC ranks, and a loss that only bends their scale moves it while the network looks and ranks as before.

Why two layers: the chosen one lies best on the findings and has the finer grid, but between it and the logit a network
can still come to lean on something else. What it leans on shows at the last layer, where before a mean and a linear
head the map is the logit itself, spread over its cells. Where the chosen layer is the last there is one alignment.

1. `too few to tell`: fewer than 10 patients with the class, or fewer than 3 seeds an arm (then a look that differs may
   be a seed's luck), or neither alignment nor detectors can be compared.
2. `better score, worse look`: AUROC or AP is shown higher (and neither lower) after Holm, and an alignment is shown
   lower (and neither higher) after Holm.
3. `same score, different model`: no difference of AUROC or AP is shown, not even taken alone (both p > alpha without
   adjustment, the strict side here), and a look differs after Holm.
4. `consistent`: otherwise. Either no look was shown to differ, or the score moved with it; the reason says which.

A difference of alignment may be the method's, not the network's. So where a second kind of map was measured, alignment
counts as shown only if the second one's gate was passed and its own difference at that layer, taken alone, lies on the
same side of 0 (p <= alpha without adjustment); else the flag is given as if no difference of that alignment had been
shown, and the reason says so. Where there is no second kind, or it gives the very same maps at this layer (HiResCAM and
Grad-CAM do before a mean and a linear head), the reason says that one alone was looked at. This can only take flags
away.

Error control: flags 2 and 3 both need a look that is shown, so over a study whose arms do not differ the chance of any
such flag is at most alpha, Holm's familywise rate over the look family, whatever the scores do. It is simulated in
`docs/results` (`make study-look-null`). Flag 3 never shows that two scores are the same, and no failure to differ
could: its reason carries the interval of both differences, and the reader judges whether that is near enough.

An arm whose maps at the chosen layer fail the gate (or any arm, where the baseline's fail) gets no flag: `maps not
trusted`, and its rows are in no look family. Where those at the last layer alone fail, or those of one class are mostly
empty, that alignment is left out.

Source: Holm, Scandinavian Journal of Statistics 6 (1979) 65.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from raresight.explain.tables import Row

ALPHA = 0.05
FEWEST_SEEDS = 3
SAME_SCORE = "same score, different model"
WORSE_LOOK = "better score, worse look"
CONSISTENT = "consistent"
TOO_FEW = "too few to tell"
FLAGS = (SAME_SCORE, WORSE_LOOK, CONSISTENT, TOO_FEW)
BEYOND = {"beyond_chance": "beyond chance", "beyond_prior": "beyond the anatomical prior"}
NOT_SHOWN, NOT_TRUSTED = "not shown", "maps not trusted"

SCORES = {"auroc": "AUROC", "auprc": "AP"}
ROUNDING = 1e-6  # two formulas that are one differ by less
METHODS_IN_WORDS = {"grad_cam": "Grad-CAM", "hires_cam": "HiResCAM", "cam": "CAM"}
LAST = "alignment_last"
LOOKS = {"alignment": "alignment", LAST: "alignment at the last layer", "detectors": "detectors"}
ALIGNMENTS = ("alignment", LAST)
BESIDE = LOOKS | {"d_prime": "d′"}


@dataclass(frozen=True)
class Second:
    """What another kind of map, `method`, says of the difference in alignment of one class and arm.

    `row` as that of `alignment`, None where it was not measured; `trusted`: arm and baseline passed its gate.
    """

    method: str
    row: Row | None
    trusted: bool = True


def verdict(
    rows: Mapping[str, Row],
    *,
    alpha: float = ALPHA,
    untrusted: str = "",
    second: Mapping[str, Second] = MappingProxyType({}),
) -> tuple[str | None, str]:
    """The flag of one class and arm, and the reason in words; see the head of this file for the rule.

    `rows`: metric (`auroc`, `auprc`, `alignment`, `alignment_last`, `detectors`, `d_prime`; any may be missing) -> its
    row with `difference diff_low diff_high p p_adjusted diff_n_seeds diff_reason`, adjusted; an
    alignment that is not trusted comes without `p`. `untrusted`: whose maps did not pass the gate at the chosen layer
    (`arm`, `baseline`), empty where both did; the flag is None then.
    `second`: metric (`alignment`, `alignment_last`) -> what another kind of map says of it.
    """
    if untrusted:
        return None, f"{NOT_TRUSTED}: the {untrusted} did not pass the check with random weights (T5)"
    scores = {name: rows[name] for name in SCORES if name in rows and rows[name]["p"] is not None}
    looks = {name: rows[name] for name in LOOKS if name in rows and rows[name]["p"] is not None}
    missing = [name for name in LOOKS if name not in looks and (name in rows or name != LAST)]
    unseen = "; ".join(LOOKS[name] + _why(rows.get(name)) for name in missing)
    if reason := _cannot_tell(rows, scores, looks, unseen):
        return TOO_FEW, reason
    shown = {name: one for name, one in looks.items() if _shown(one, alpha)}
    told = []
    for name in ALIGNMENTS:
        confirmed, by_whom = _confirmed(looks.get(name), second.get(name), alpha)
        if not confirmed:
            shown.pop(name, None)
        if by_whom:
            told.append(f"{LOOKS[name]}: {by_whom}" if LAST in looks else by_whom)
    by_whom = "; ".join(told)
    flag, why = _flag(list(scores.values()), shown, alpha)
    beside = {name: one for name, one in rows.items() if name in looks or name not in LOOKS}
    said = (
        f"{why}: {_words(SCORES, rows)}; {'shown: ' if shown else ''}{_words(LOOKS, shown) or _words(BESIDE, beside)}"
    )
    return flag, said + (f"; {by_whom}" if by_whom else "") + (f"; not looked at: {unseen}" if unseen else "")


def _confirmed(first: Row | None, second: Second | None, alpha: float) -> tuple[bool, str]:
    """Whether a difference of alignment may count, and in words what the second kind of map has to do with it."""
    one = "" if first is None else _method(first["method"])
    if first is None or second is None:
        return True, one and f"{one} alone was looked at, no second kind of map that is put to the gate"
    other, theirs = _method(second.method), second.row
    if theirs is not None and _same_maps(first, theirs):
        return True, f"{one} alone was looked at: {other} gives the same maps at this layer"
    if not _shown(first, alpha):
        return True, ""
    if theirs is None or theirs["difference"] is None or not second.trusted:
        why = f"{other} {'was not measured' if second.trusted else 'did not pass the check (T5)'}"
        return False, f"{why}, so no second kind of map confirms the difference of alignment by {one}"
    numbers = f"{one} {_difference(first)}, {other} {_difference(theirs)}"
    against = first["difference"] * theirs["difference"] < 0
    if not against and theirs["p"] is not None and theirs["p"] <= alpha:
        return True, f"both methods show it ({numbers})"
    why = "the two methods disagree on the" if against else f"{other} does not show the difference of"
    return False, f"{why} alignment ({numbers}), so it does not count"


def _difference(one: Row, digits: int = 3) -> str:
    """`+0.012 (-0.003 to +0.027)`."""
    said = f"{one['difference']:+.{digits}f}"
    if one["diff_low"] is None:
        return said
    return f"{said} ({one['diff_low']:+.{digits}f} to {one['diff_high']:+.{digits}f})"


def _same_maps(first: Row, other: Row) -> bool:
    pairs = [(first[key], other[key]) for key in ("value", "difference")]
    return all(a is not None and b is not None and abs(a - b) < ROUNDING for a, b in pairs)


def _method(name: str | None) -> str:
    return METHODS_IN_WORDS.get(name or "", name or "one kind of map")


def _flag(scores: Sequence[Row], shown: Mapping[str, Row], alpha: float) -> tuple[str, str]:
    """From the scores' rows and those of the looks that are shown to differ."""
    better = any(_shown(one, alpha) and one["difference"] > 0 for one in scores)
    worse = any(_shown(one, alpha) and one["difference"] < 0 for one in scores)
    moved = [shown[name]["difference"] for name in ALIGNMENTS if name in shown]
    if better and not worse and moved and max(moved) < 0:
        return WORSE_LOOK, "a higher score and a lower alignment were shown"
    if not shown:
        return CONSISTENT, "no look was shown to differ, which does not make them equal"
    if all(one["p"] > alpha for one in scores):
        return SAME_SCORE, "no score difference was shown, which does not make them equal"
    return CONSISTENT, "the score moved too, or may have"


def _cannot_tell(
    rows: Mapping[str, Row], scores: Mapping[str, Row], looks: Mapping[str, Row], unseen: str
) -> str | None:
    if not scores:
        return next((rows[name]["diff_reason"] for name in SCORES if name in rows), "") or "no score can be compared"
    seeds = min(one["diff_n_seeds"] or 1 for one in (*scores.values(), *looks.values()))
    if seeds < FEWEST_SEEDS:
        many = "one seed" if seeds == 1 else f"{seeds} seeds"
        return f"{many} an arm, fewer than {FEWEST_SEEDS}: a different look may be a seed's luck"
    return None if looks else f"not looked at: {unseen}"


def chance_verdict(one: Row, *, alpha: float = ALPHA) -> tuple[str, str]:
    """`beyond chance` (or prior), `not shown`, `too few to tell` or `maps not trusted`, from an arm's own alignment.

    `one`: a row `beyond_chance` or `beyond_prior`. Beyond: above 0 with p ≤ alpha, where p is Holm's over class x arm
    (`p_adjusted` of this row).
    """
    if one["greyed"]:
        return NOT_TRUSTED, one["reason"]
    if one["value"] is None or one["p_adjusted"] is None:
        return TOO_FEW, one["reason"]
    above = one["value"] > 0 and one["p_adjusted"] <= alpha
    return (BEYOND[one["metric"]] if above else NOT_SHOWN), one["reason"]


def _shown(one: Row, alpha: float) -> bool:
    return one["p_adjusted"] is not None and one["p_adjusted"] <= alpha and one["difference"] != 0


def _why(one: Row | None) -> str:
    return "" if one is None or not one["diff_reason"] else f" ({one['diff_reason']})"


def _words(names: Mapping[str, str], rows: Mapping[str, Row]) -> str:
    """`AUROC +0.012 (-0.003 to +0.027), AP ...`."""
    said = []
    for metric, word in names.items():
        one = rows.get(metric)
        if one is None or one["difference"] is None:
            continue
        said.append(f"{word} {_difference(one, 1 if metric == 'detectors' else 3)}")
    return ", ".join(said)
