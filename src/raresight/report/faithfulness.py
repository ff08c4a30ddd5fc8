"""The page of pictures of `raresight audit --augment`: examples, bars and the table, in one file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from raresight.report.figures.faithfulness import Panel, examples, faithfulness


def page(audit: Mapping[str, Any], panels: Sequence[Panel]) -> str:
    """One self-contained HTML page; every word from the data is escaped."""
    drawn = faithfulness(audit)
    picture = base64.b64encode(examples(panels)).decode()
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    head = "".join(f"<th>{escape(cell)}</th>" for cell in drawn.table.head)
    body = "".join(
        f'<tr class="{row.mark}">{"".join(f"<td>{escape(cell)}</td>" for cell in row.cells)}</tr>'
        for row in drawn.table.rows
    )
    reasons = "".join(
        f"<li><b>{escape(row['name'])}</b>, {escape(row['bound'])}: {escape(row['reason'])}</li>"
        for row in audit["transforms"]
    )
    features = "".join(f"<li><b>{escape(row['feature'])}</b>: {escape(row['about'])}</li>" for row in audit["features"])
    counted = (
        f"{audit['n_lesions']:,} lesions of {audit['n_patients']:,} patients, {audit['n_lesions_repeated']:,} of them "
        f"photographed more than once ({audit['n_images']:,} photographs); preset {escape(audit['preset'])}"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Does augmentation keep the diagnosis?</title>
<style>{style} main {{ max-width: 72rem; }} img {{ max-width: 100%; }} .scroll {{ overflow-x: auto; }}</style></head>
<body><main><h1>Does augmentation keep the diagnosis?</h1>
<p class="facts">{counted}</p>
<p>{escape(drawn.caption)}</p>
<h2>A typical lesion, before and after</h2>
<figure><img alt="One lesion under every transform, outlined" src="data:image/png;base64,{picture}"></figure>
<h2>How far each feature moves</h2>
<figure>{drawn.svg}</figure>
<p class="note">{escape(audit["rule"])}</p>
<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>
<h2>What is measured</h2><ul>{features}</ul>
<h2>Why each bound stands where it does</h2><ul>{reasons}</ul>
</main></body></html>
"""
