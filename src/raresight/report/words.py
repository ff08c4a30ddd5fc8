"""Numbers and names as a reader outside the field would want them written."""

from __future__ import annotations

from collections.abc import Sequence

from raresight.core.estimate import Estimate

PARTS = {"train": "training part", "val": "validation part", "test": "test part", "external": "external data"}
METRICS = {
    "recall": "sensitivity (recall)",
    "precision": "precision (PPV)",
    "specificity": "specificity",
    "npv": "negative predictive value",
    "f1": "F1",
    "auroc": "AUROC",
    "auprc": "average precision",
    "recall_at_specificity_90": "sensitivity at 90% specificity",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_auroc": "macro AUROC",
    "macro_auprc": "macro average precision",
    "expected_cost": "expected cost",
    "ece": "calibration error (ECE)",
    "ici": "integrated calibration index",
    "calibration_intercept": "calibration intercept",
    "calibration_slope": "calibration slope",
    "recall_at_matched_specificity": "sensitivity at the baseline's specificity",
    "alarms_per_1000": "alarms per 1,000",
    "expected_observed_ratio": "expected / observed",
    "net_benefit": "net benefit",
    "ppv_at_prevalence": "precision (PPV) at the prevalence in use",
    "npv_at_prevalence": "negative predictive value at the prevalence in use",
    "number_needed_to_read": "alarms to read for one case",
    "misses_per_100000": "missed per 100,000",
    "conformal_coverage": "patients whose sets all hold it",
    "conformal_set_size": "classes in the set",
    "share_referred": "share referred to a human",
    "recall_decided": "sensitivity among the decided",
    "specificity_decided": "specificity among the decided",
    "misses_avoided_per_100_referrals": "misses avoided per 100 referrals",
    "referral_net_saving": "net saving by referral",
    "expected_cost_matrix": "expected cost by the cost matrix",
    "trivial_expected_cost": "expected cost without looking",
    "trivial_accuracy": "accuracy without looking",
}
POINTS = {
    "argmax": "the most probable class",
    "0.5": "probability 0.5",
    "tuned": "thresholds tuned on the validation part",
    "frozen": "thresholds frozen before the test part was opened",
}
PERCENT = {
    "recall",
    "recall_at_specificity_90",
    "precision",
    "specificity",
    "npv",
    "accuracy",
    "trivial_accuracy",
    "balanced_accuracy",
    "ppv_at_prevalence",
    "npv_at_prevalence",
    "conformal_coverage",
    "share_referred",
    "recall_decided",
    "specificity_decided",
}
HAM10000 = {
    "akiec": "actinic keratosis",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "nevus",
    "vasc": "vascular lesion",
}
DASH = "–"


def class_name(name: str) -> str:
    """A class as a clinician would say it; the codes of HAM10000 are spelled out."""
    return HAM10000.get(name, name.replace("_", " "))


def metric_name(name: str) -> str:
    return METRICS.get(name, name.replace("_", " "))


def part_name(part: str) -> str:
    return PARTS.get(part, "data given")


def many(n: float, singular: str) -> str:
    """`1 patient`, `2 patients`, `10,015 images`."""
    return f"{n:,} {singular if n == 1 else plural(singular)}"


def plural(word: str) -> str:
    return word[:-1] + "ies" if word.endswith("y") else word + "s"


def unit_of(column: str) -> str:
    """What a grouping column holds one of: `lesion_id` holds lesions."""
    word = column.removesuffix("_id").replace("_", " ")
    return {"case": "image", "": "patient"}.get(word, word)


def percent(value: float) -> str:
    """A share as a whole percentage, never rounded to a certainty that it is not."""
    if 0 < value < 0.005:
        return "<1%"
    if 0.995 < value < 1:
        return ">99%"
    return f"{100 * value:.0f}%"


def share(value: float) -> str:
    """A prevalence with as many digits as it needs: `67%`, `1.4%`, `0.20%`."""
    digits = 0 if value >= 0.1 else 1 if value >= 0.01 else 2
    return f"{100 * value:.{digits}f}%"


def number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:,.0f}"


def p_value(p: float | None) -> str:
    if p is None:
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    rounded = round(100 * difference)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else ''}{abs(rounded)}"


def interval(low: float | None, high: float | None, metric: str = "recall") -> str:
    if low is None or high is None:
        return ""
    if metric in PERCENT:
        return f"{100 * low:.0f}{DASH}{100 * high:.0f}%"
    return f"{number(low)}{DASH}{number(high)}"


def figure(estimate: Estimate | None) -> str:
    """`83% (71–91%)`, or the words that stand in its place; never a bare number."""
    if estimate is None:
        return "not computed"
    if estimate.value is None:
        return "not estimable"
    as_text = percent if estimate.metric in PERCENT else number
    bounds = interval(estimate.low, estimate.high, estimate.metric)
    return f"{as_text(estimate.value)} ({bounds})" if bounds else f"{as_text(estimate.value)} (no interval)"


def listing(items: Sequence[str], last: str = "and") -> str:
    """`a, b and c`."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def sentence(text: str) -> str:
    """The text with a capital first and a full stop last; a name such as `heavy_augment` keeps its letters."""
    text = text.strip()
    if not text:
        return ""
    begun = text if "_" in text.split()[0] else text[0].upper() + text[1:]
    return begun + ("" if text[-1] in ".!?" else ".")
