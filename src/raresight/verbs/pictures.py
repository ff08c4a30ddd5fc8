"""Small pictures of cases for the report, from the study's own cache, where somebody asked for them."""

from __future__ import annotations

from collections.abc import Sequence

from raresight.verbs.opened import OpenStudy


def pictures(study: OpenStudy, cases: Sequence[str]) -> dict[str, str]:
    """JPEG data URIs by case; of a decision unit of several images the first one. A case without an image has none."""
    from raresight.data.thumbnails import jpeg_uri

    first: dict[str, str] = {}
    decision = study.config.decision
    if decision.unit == "image":
        first = {case: case for case in cases}
    else:
        column = decision.column or {"patient": "patient_id"}.get(decision.unit, decision.unit)
        for unit, case in zip(study.manifest.column(column), study.manifest.cases, strict=True):
            first.setdefault(str(unit), str(case))
    cached = set(map(str, study.cache.cases))
    wanted = {case: first[case] for case in dict.fromkeys(cases) if first.get(case) in cached}
    if not wanted:
        return {}
    rows = study.cache.rows(list(wanted.values()))
    return {case: jpeg_uri(study.cache.pixels[row]) for case, row in zip(wanted, rows, strict=True)}
