"""The faithfulness audit on HAM10000 with its masks: python benchmarks/faithfulness_study.py DATA OUT [...]

DATA is the folder of that data set; OUT a folder for `faithfulness.json`, which is kept and read again. `--table FILE`
writes the findings as Markdown, `--figure FILE` the bars as SVG, `--phantom FILE` pictures of a lesion that never was
under every transform (photographs of patients are not ours to publish). Beside the dermoscopy preset, the audit looks
at bounds that the preset had before, or might have, so that the choice can be followed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from raresight.core.files import read_json, write_json, write_text
from raresight.core.presets import DERMOSCOPY, PLAIN
from raresight.core.progress import Terminal
from raresight.data.faithfulness import Candidate, audit
from raresight.data.phantom import make_phantom
from raresight.data.read import ReadOptions, read
from raresight.report.figures.faithfulness import examples, standalone
from raresight.verbs.augment_audit import panels, photographs
from raresight.verbs.augment_candidates import candidates, control

OTHER_BOUNDS: dict[str, tuple[float, ...]] = {"rotate_deg": (180.0, 30.0, 20.0), "hue": (0.015,), "contrast": (0.12,)}


def main() -> None:
    options = arguments()
    kept = options.out / "faithfulness.json"
    if not kept.exists():
        write_json(kept, measure(options))
    result = read_json(kept)
    if options.table:
        write_text(options.table, table(result))
    if options.figure:
        write_text(options.figure, standalone(result))
    if options.phantom:
        options.phantom.write_bytes(phantom_pictures())
    print(table(result))


def phantom_pictures() -> bytes:
    """One lesion of the phantom under every transform of the dermoscopy preset and beyond it, as PNG."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = make_phantom(Path(folder), n_patients=30, size=160, seed=0)
        reading = read("csv", manifest, ReadOptions(group_col="lesion_id"))
        photos = photographs(reading.manifest, reading.root, channels=3, seed=0)
        chosen = candidates(DERMOSCOPY)
        return examples(panels(audit(photos, chosen, control(), resamples=300), chosen, photos))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    reading = read("ham10000", options.data, ReadOptions())
    photos = photographs(reading.manifest, reading.root, channels=3, seed=options.seed, most=options.lesions)
    started = time.perf_counter()
    with Terminal().bar("measuring lesions") as advance:
        result = audit(
            photos, [*candidates(DERMOSCOPY), *other_bounds()], control(), seed=options.seed, progress=advance
        )
    return {"preset": "dermoscopy", "seconds": time.perf_counter() - started, "date": str(date.today()), **result}


def other_bounds() -> list[Candidate]:
    """The transforms of `OTHER_BOUNDS`, none of them the preset's own."""
    found = []
    for name, bounds in OTHER_BOUNDS.items():
        for bound in bounds:
            alone = replace(PLAIN, reasons=DERMOSCOPY.reasons)
            first = candidates(replace(alone, **{name: bound}))[0]
            found.append(replace(first, allowed=False, reason="another bound of the preset's transform"))
    return found


def table(result: dict[str, Any]) -> str:
    """One row a transform: the median change over the spread of repeated photographs, by feature."""
    names = [row["feature"] for row in result["features"]]
    head = ["transform", "bound", "preset", *names, "cut by the edge", "destroys"]
    rows = [head, ["---"] * len(head)]
    for row in [result["control"], *result["transforms"]]:
        cells = [_ratio(feature) for feature in row["features"]]
        inside = "-" if row is result["control"] else "yes" if row["allowed"] else "no"
        rows.append(
            [row["name"], row["bound"], inside, *cells, f"{row['share_cut']:.0%}", ", ".join(row["destroys"]) or "-"]
        )
    spreads = [["feature", "what", "median", "between lesions (SD)", "two photographs (SD)"], ["---"] * 5]
    for row in result["features"]:
        figures = ["-" if row[key] is None else f"{row[key]:.3g}" for key in ("median", "between_sd", "within_sd")]
        spreads.append([row["feature"], row["about"], *figures])
    lines = ["| " + " | ".join(line) + " |" for line in rows]
    return "\n".join([*lines, "", *("| " + " | ".join(line) + " |" for line in spreads), ""])


def _ratio(feature: dict[str, Any]) -> str:
    within, between = feature["to_within"], feature["to_between"]
    if within is None or within["value"] is None:
        return "-"
    if within["high"] < 0.005:
        return "0"
    text = f"{within['value']:.2f} [{within['low']:.2f}, {within['high']:.2f}]; {between['value']:.2f}"
    return f"**{text}**" if feature["destroyed"] else text


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--lesions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--phantom", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
