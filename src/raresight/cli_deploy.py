"""The commands of a frozen operating point: freeze, predict, validate, monitor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raresight.cli_output import answer, progress, say

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that `raresight freeze` made.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the command's artefact as JSON on stdout.")]
Root = Annotated[Path | None, typer.Option(help="The folder that image paths begin in; default: the table's own.")]


def freeze(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study folder.")],
    arm: Annotated[str | None, typer.Option(help="The arm; default: the one that compare names to deploy.")] = None,
    seed: Annotated[str | None, typer.Option(help="A seed, or 'ensemble'; default: the first one.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; default: STUDY/bundle/ARM.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another bundle that lies there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a bundle of one arm: weights, preprocessing, calibrator, thresholds, criteria, hashes."""
    from raresight.api import Study

    chosen = int(seed) if seed is not None and seed.isdigit() else seed
    bundle = Study.open(study, progress()).freeze(arm=arm, seed=chosen, out=out, force=force)
    say(f"bundle sha256 {bundle.sha256}")
    answer({"folder": str(bundle.folder), "sha256": bundle.sha256, **bundle.facts}, as_json, str(bundle.folder))


def predict(
    bundle: BundlePath,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATHS...", help="Pictures, folders, or tables that list them.")
    ],
    out: Annotated[Path | None, typer.Option(help="Where to write the table; default: stdout.")] = None,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Decided, referred, or invalid input with the reason; one bad file never loses the rest."""
    from raresight import api

    table = api.predict(bundle, paths, out=out, root=root, progress=progress())
    counts = table["status"].value_counts()
    say(", ".join(f"{counts.get(name, 0):,} {name}" for name in ("decided", "refer", "invalid_input")))
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    answer(rows, as_json, str(out) if out is not None else table.to_csv(index=False).rstrip("\n"))


def validate(
    bundle: BundlePath,
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A table: image, patient_id and labels.")],
    site: Annotated[str, typer.Option(help="The name of the site that the data come from.")],
    root: Root = None,
    one_image_per_patient: Annotated[
        bool, typer.Option("--one-image-per-patient", help="State that no two rows show one patient.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Where to write; default: validate/SITE.")] = None,
    as_json: AsJson = False,
) -> None:
    """The bundle, unchanged, on labelled data from elsewhere; nothing is fitted."""
    from raresight import api

    result = api.validate(
        bundle,
        manifest,
        site=site,
        root=root,
        one_image_per_patient=one_image_per_patient,
        out=out,
        progress=progress(),
    )
    for note in result["notes"]:
        say(note)
    lines = [f"{row['verdict']}: {row['criterion']} {row['evidence']}" for row in result["acceptance"]]
    answer(result, as_json, "\n".join([*lines, str(Path(result["folder"]) / "report.html")]))


def monitor(
    bundle: BundlePath,
    predictions: Annotated[Path, typer.Argument(metavar="PRED.csv", help="What `raresight predict --out` wrote.")],
    time: Annotated[str | None, typer.Option(help="Column with a date: one answer a month.")] = None,
    out: Annotated[Path, typer.Option(help="Where to write monitor.json and monitor.txt.")] = Path("monitor"),
    as_json: AsJson = False,
) -> None:
    """Have scores, alarms and prevalence drifted since validation? No labels needed."""
    from raresight import api

    result = api.monitor(bundle, predictions, time=time, out=out)
    answer(result, as_json, result["text"])
