"""Nothing is fitted on the test part."""

from __future__ import annotations

from raresight.core.errors import GateError, Problem
from raresight.core.predictions import Predictions


def refuse_test(predictions: Predictions, what: str, judged: str) -> None:
    """Raise a `GateError` RS-R36 where `what` ("thresholds were") would be fitted on the test part.

    `judged` names what would then be too good: "a share judged on the rows that set it".
    """
    if predictions.part != "test":
        return
    raise GateError(
        Problem(
            code="RS-R36",
            level="error",
            found=f"{what} to be fitted on the test part",
            why=f"{judged} is too good",
            remedy="tune on validation or out-of-fold predictions",
        )
    )
