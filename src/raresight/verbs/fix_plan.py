"""`raresight check --fix-plan`: the rows to mend as a table that opens in any spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from raresight.core.files import write_text

COLUMNS = ("code", "row", "column", "found", "remedy")


def fix_plan(issues: Path) -> Path:
    """Write `fix_plan.csv` beside `issues.jsonl`: one line a problem, in its order; return the table's path."""
    lines = issues.read_text(encoding="utf-8").splitlines()
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(json.loads(line) for line in lines if line.strip())
    out = issues.with_name("fix_plan.csv")
    write_text(out, text.getvalue())
    return out
