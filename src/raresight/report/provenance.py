"""Where the figures come from: versions, seeds, machine, settings, openings of the test part, hashes of files."""

from __future__ import annotations

from typing import Any

from raresight.report.content import Content
from raresight.report.tables import Table, table

HASH_DIGITS = 16


def provenance(content: Content) -> list[tuple[str, Table | str]]:
    """Titled tables, or the reason why one is missing."""
    return [
        ("Made with", _made(content)),
        ("Openings of the test part", _openings(content)),
        ("Files", _files(content)),
    ]


def _made(content: Content) -> Table | str:
    from raresight import __version__

    rows = [("raresight (this report)", __version__)]
    config = content.config
    if config is not None:
        steps = f"{config.train.steps:,} steps" if config.train.steps else f"{config.train.epochs} epochs"
        decision = f"per {config.decision.unit}"
        decision += f", {config.decision.aggregate} over its images" if config.decision.unit != "image" else ""
        rows += [
            ("Seeds", ", ".join(map(str, config.seeds))),
            ("Split", f"by {config.split.group}, seed {config.split.seed}, {_shares(config.split)}"),
            ("Decision", decision),
            ("Images", f"{config.image.size} px, preset {config.image.preset}"),
            ("Model", f"{config.model.backbone}, {'pretrained' if config.model.pretrained else 'from scratch'}"),
            ("Training", f"{steps}, batch {config.train.batch}, {config.train.optimiser}"),
            ("Checkpoint chosen by", f"{config.train.select} on the validation part"),
        ]  # fmt: skip
    if content.lock is None:
        return table(("What", "Value"), [*rows, ("Machine", content.why_missing("lock"))])
    rows += [(_words(key), value) for key, value in _flat(content.lock)]
    return table(("What", "Value"), rows)


def _shares(split: Any) -> str:
    if split.column:
        return f"as supplied in column {split.column}"
    folds = f", {split.folds} folds" if split.folds else ""
    return f"{100 * split.train:g}/{100 * split.val:g}/{100 * split.test:g}{folds}"


def _openings(content: Content) -> Table | str:
    if content.ledger is None:
        return "not computed, because predictions from elsewhere have no ledger"
    if "ledger" in content.missing:
        return content.why_missing("ledger")
    if not content.ledger:
        return "The test part has not been opened."
    rows = [
        (str(line["opening"]), str(line["time"]), str(line["reason"]), str(line["plan_sha256"])[:HASH_DIGITS],
         str(line["data_sha256"])[:HASH_DIGITS])
        for line in content.ledger
    ]  # fmt: skip
    return table(("Opening", "Time", "Reason given", "Plan (SHA-256)", "Data (SHA-256)"), rows)


def _files(content: Content) -> Table | str:
    if not content.files:
        return "not computed, because the figures were handed over in memory, without files"
    rows = [(name, digest[:HASH_DIGITS]) for name, digest in sorted(content.files.items())]
    note = f"First {HASH_DIGITS} digits; report.json has all."
    return table(("File", "SHA-256"), rows, note=note)


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flat(inner, f"{prefix} {key}".strip())]
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return [(prefix, text if len(text) < 90 else text[:87] + "...")]


def _words(key: str) -> str:
    text = key.replace("_", " ")
    return text[0].upper() + text[1:]
