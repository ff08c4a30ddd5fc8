"""The command line: the verbs of `raresight.api`, no logic. Heavy packages load inside the commands."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from raresight import cli_deploy, cli_explain, cli_train
from raresight.cli_output import answer as _answer
from raresight.cli_output import progress as _progress
from raresight.cli_output import refuse_several, trouble
from raresight.cli_output import say as _say
from raresight.core.launched import silent

app = typer.Typer(
    name="raresight",
    help="For medical images in which the disease that must not be missed is rare.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="The study folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the command's artefact as JSON on stdout.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Too few patients, or pictures turned upside down, stop here (exit 4).")
]


class Source(StrEnum):
    csv = "csv"
    folder = "folder"
    ham10000 = "ham10000"
    chestxray14 = "chestxray14"
    medmnist = "medmnist"


class Part(StrEnum):
    val = "val"
    test = "test"


class Scores(StrEnum):
    probabilities = "probabilities"
    logits = "logits"


class Aggregate(StrEnum):
    max = "max"
    mean = "mean"


class Listing(StrEnum):
    strategies = "strategies"
    arms = "arms"
    datasets = "datasets"
    metrics = "metrics"
    presets = "presets"


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Where to put the demo study.")] = Path("demo")) -> None:
    """The whole line on a built-in phantom of dermoscopy, test part included."""
    from raresight import api

    print(api.demo(out, progress=_progress()))


@app.command()
def init(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study folder to make.")],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A table, a folder or an .npz file.")],
    kind: Annotated[Source, typer.Option("--from", help="What SOURCE is.")],
    quick: Annotated[bool, typer.Option(help="64 px from scratch; marked 'not for conclusions'.")] = False,
    image_col: Annotated[str | None, typer.Option(help="Column with image paths.")] = None,
    label_col: Annotated[str | None, typer.Option(help="Column with the label or the list of labels.")] = None,
    label_sep: Annotated[str | None, typer.Option(help="What separates several labels in one cell.")] = None,
    patient_col: Annotated[str | None, typer.Option(help="Column with patient ids.")] = None,
    group_col: Annotated[str | None, typer.Option(help="Column with lesion or exam ids.")] = None,
    mask_col: Annotated[str | None, typer.Option(help="Column with mask paths.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that image paths are relative to.")] = None,
    no_images: Annotated[bool, typer.Option("--no-images", help="Label tables only: audit and split.")] = False,
    one_image_per_patient: Annotated[
        bool, typer.Option("--one-image-per-patient", help="State that no two images show one patient.")
    ] = False,
) -> None:
    """A commented study.yaml and a normalised manifest from your data."""
    from raresight.data.read import ReadOptions
    from raresight.verbs.init import init as make

    options = ReadOptions(
        image_col=image_col,
        label_col=label_col,
        label_sep=label_sep,
        patient_col=patient_col,
        group_col=group_col,
        mask_col=mask_col,
        root=root,
        no_images=no_images,
        one_image_per_patient=one_image_per_patient,
    )
    make(study, kind.value, source, options, quick=quick, progress=_progress())


@app.command()
def run(
    study: StudyPath,
    open_test: Annotated[bool, typer.Option("--open-test", help="Open the test part at the end; recorded.")] = False,
    strict: Strict = False,
) -> None:
    """Check, split, audit, train, tune, evaluate on validation, compare, report. Never opens test unless asked."""
    path = _study(study).run(open_test=open_test, strict=strict)
    if path is not None:
        print(path)


@app.command()
def score(
    tests: Annotated[list[Path], typer.Argument(metavar="TEST...", help="Prediction tables (.csv or .parquet).")],
    val: Annotated[list[Path] | None, typer.Option(help="Validation predictions, one per TEST file.")] = None,
    thresholds: Annotated[Path | None, typer.Option(help="Frozen thresholds to judge.")] = None,
    baseline: Annotated[str | None, typer.Option(help="The file (by name) that the others are compared with.")] = None,
    columns: Annotated[Path | None, typer.Option("--map", help="YAML: our column name -> yours.")] = None,
    train_prior: Annotated[Path | None, typer.Option(help="YAML: class -> {trained, natural} shares.")] = None,
    group: Annotated[str, typer.Option(help="Column that names the patient.")] = "patient_id",
    costs: Annotated[
        Path | None, typer.Option(help="YAML: missed, matrix, prevalence, referral; also floors, refer, miscoverage.")
    ] = None,
    floors: Annotated[
        Path | None, typer.Option(help="YAML: class: {sensitivity: 0.9} or {specificity: 0.9}; needs --val.")
    ] = None,
    critical: Annotated[list[str] | None, typer.Option(help="A class that must not be missed (repeatable).")] = None,
    scores: Annotated[Scores, typer.Option(help="What the prob_ columns hold.")] = Scores.probabilities,
    one_image_per_patient: Annotated[
        bool, typer.Option("--one-image-per-patient", help="State that no two rows show one patient.")
    ] = False,
    unit: Annotated[
        str | None, typer.Option(help="What a decision is about: image (default), lesion, exam, patient.")
    ] = None,
    unit_column: Annotated[str | None, typer.Option(help="The column that names the unit.")] = None,
    aggregate: Annotated[Aggregate, typer.Option(help="A unit's score from its images'.")] = Aggregate.max,
    subgroups: Annotated[str, typer.Option(help="Columns to tell figures apart by, such as sex,age.")] = "",
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap resamples.")] = 2000,
    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("score"),
    as_json: AsJson = False,
) -> None:
    """The full evaluation and report of any model's predictions. No torch."""
    from raresight import api

    result = api.score(
        tests,
        out,
        val=val or (),
        thresholds=thresholds,
        baseline=baseline,
        columns=columns,
        train_prior=train_prior,
        group=group,
        costs=costs,
        floors=floors,
        critical=critical or (),
        scores=scores.value,
        unit=unit,
        unit_column=unit_column,
        aggregate=aggregate.value,
        subgroups=_parts(subgroups),
        one_image_per_patient=one_image_per_patient,
        resamples=resamples,
        progress=_progress(),
    )
    for note in result["notes"]:
        _say(note)
    _answer(result, as_json, str(out / "report.html"))


@app.command()
def report(
    study: StudyPath,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="Embed small pictures of the cases to look at.")
    ] = False,
) -> None:
    """One self-contained HTML page; the first page is for a clinician."""
    print(_study(study).report(thumbnails=thumbnails))


@app.command()
def status(study: StudyPath, as_json: AsJson = False) -> None:
    """What is done, stale or missing, and the next command."""
    result = _study(study).status()
    lines = [f"{step['name']:<10} {step['state']:<8} {step['why']}".rstrip() for step in result["steps"]]
    lines += [f"speed of {row['arm']}: {row['words']}" for row in result["speed"]]
    _answer(result, as_json, "\n".join([*lines, f"next: {result['next']}" if result["next"] else "all done"]))


@app.command()
def check(
    study: StudyPath,
    fix_plan: Annotated[
        bool, typer.Option("--fix-plan", help="Also write data/fix_plan.csv: the rows to mend.")
    ] = False,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """All problems of the input at once."""
    opened = _study(study)
    try:
        problems = opened.check()
    finally:  # refused data are what a plan is for
        if fix_plan:
            _say(f"wrote {opened.fix_plan()}")
    text = "\n".join(f"{p['level']}: {p['code']} {p['file']}: {p['found']} - {p['remedy']}" for p in problems)
    _answer(problems, as_json, text or "no problem found")
    if strict:
        opened.require_strict()


@app.command()
def audit(
    study: StudyPath,
    augment: Annotated[
        bool, typer.Option("--augment", help="Instead: does augmentation keep what a diagnosis rests on? Needs masks.")
    ] = False,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """How rare is what, in how many patients, and what the parts will be able to show."""
    if augment:
        result = _study(study).augment_audit()
        _answer(result, as_json, _augment_table(result))
        _say(f"pictures: {study / 'audit' / 'augment.html'}")
        return
    result = _study(study).audit()
    _answer(result, as_json, _audit_table(result))
    if strict:
        _study(study).require_strict()


@app.command()
def advise(
    study: StudyPath,
    label_noise: Annotated[str | None, typer.Option(help="Of the labels: none, some, much, unknown.")] = None,
    write: Annotated[bool, typer.Option(help="Write the arms into study.yaml.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace arms of your own.")] = False,
    as_json: AsJson = False,
) -> None:
    """The arms that suit this data, with reasons, written into study.yaml; and what not to try."""
    result = _study(study).advise(label_noise=label_noise, write=write, force=force)
    _answer(result, as_json, _advice(result))


@app.command()
def split(study: StudyPath, as_json: AsJson = False) -> None:
    """Patient-level parts, rare classes in every part, with a proof that nothing leaks."""
    result = _study(study).split()
    _answer(result, as_json, json.dumps({k: v for k, v in result.items() if not isinstance(v, list)}, indent=1))


app.command()(cli_train.train)


@app.command()
def tune(study: StudyPath, as_json: AsJson = False) -> None:
    """Calibrators and thresholds, from validation predictions alone."""
    rows = _study(study).tune()
    _answer(rows, as_json, f"{len(rows)} runs tuned")


@app.command()
def evaluate(
    study: StudyPath,
    part: Annotated[Part, typer.Option(help="The part to evaluate.")] = Part.val,
    yes: Annotated[bool, typer.Option("--yes", help="Open the test part without asking.")] = False,
    reuse_test: Annotated[bool, typer.Option("--reuse-test", help="Open a spent test part again.")] = False,
    reason: Annotated[str, typer.Option(help="Why the test part is opened again.")] = "",
    as_json: AsJson = False,
) -> None:
    """Estimates with intervals; the test part asks, freezes the plan and records the opening."""
    opened = _study(study)
    if part is Part.val:
        estimates = opened.evaluate()
    else:
        estimates = opened.open_test(confirm=_confirm(yes), reuse=reuse_test, reason=reason)
    _answer({"estimates": [e.as_dict() for e in estimates]}, as_json, f"{len(estimates)} estimates on {part.value}")


@app.command()
def compare(study: StudyPath, as_json: AsJson = False) -> None:
    """Paired differences, who wins for which class, and one arm to deploy."""
    result = _study(study).compare()
    lines = [f"{row['class']}: {row['arm']} - {row['reason']}" for row in result["recommendation"]]
    deploy = result["deploy"]
    _answer(result, as_json, "\n".join([*lines, f"deploy: {deploy['arm']} - {deploy['reason']}"]))


@app.command()
def sweep(
    study: StudyPath,
    cls: Annotated[str, typer.Option("--class", help="The class to thin in training.")],
    prevalence: Annotated[str, typer.Option(help="Its prevalences in training, such as 0.05,0.01,0.002.")],
    arms: Annotated[str, typer.Option(help="Arms of study.yaml, with commas; all where none is named.")] = "",
    seeds: Annotated[str, typer.Option(help="Seeds, with commas; those of study.yaml where none is named.")] = "",
    open_test: Annotated[bool, typer.Option("--open-test", help="Judge on the test part as well; recorded.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Open the test part without asking.")] = False,
    reuse_test: Annotated[bool, typer.Option("--reuse-test", help="Open a spent test part again.")] = False,
    reason: Annotated[str, typer.Option(help="Why the test part is opened.")] = "",
    as_json: AsJson = False,
) -> None:
    """Thin one class in the training part, and see which arm suits which severity."""
    result = _study(study).sweep(
        cls,
        _parts(prevalence),
        arms=_parts(arms),
        seeds=_parts(seeds),
        open_test=open_test,
        confirm=_confirm(yes),
        reuse=reuse_test,
        reason=reason,
    )
    part = result["test"] or result["val"]
    _answer(result, as_json, "\n".join(f"{row['column']:<10} {row['text']}" for row in part["verdicts"]))


app.command()(cli_explain.explain)

for deployed in (cli_deploy.freeze, cli_deploy.predict, cli_deploy.validate, cli_deploy.monitor):
    app.command()(deployed)


@app.command("list")
def list_(
    what: Annotated[Listing, typer.Argument(help="What to list.")] = Listing.strategies, as_json: AsJson = False
) -> None:
    """What there is, with its source."""
    from raresight import api

    result = api.listing(what.value)
    _answer(result, as_json, "\n".join(_row(row) for row in next(iter(result.values()))))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Versions, devices, determinism, disk and shared memory."""
    from raresight import api

    result = api.doctor()
    lines = [
        f"{'ok ' if c['ok'] else '-- '} {c['name']:<24} {c['found']}  {c['remedy']}".rstrip() for c in result["checks"]
    ]
    _answer(result, as_json, "\n".join(lines))


def main() -> None:
    """Run the command; leave with its exit code, never with a traceback for what a user can cause."""
    from raresight.core.errors import RaresightError

    try:
        refuse_several(sys.argv[1:])
        app()
    except RaresightError as error:
        trouble(*map(str, error.problems))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        if not silent():
            _say("interrupted; the same command goes on where it was left")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get("RARESIGHT_DEBUG"):
            raise
        trouble(
            f"a bug of ours: {type(error).__name__}: {error}\n    set RARESIGHT_DEBUG=1 for the traceback and report it"
        )
        sys.exit(1)


def _study(path: Path) -> Any:
    from raresight.api import Study

    return Study.open(path, _progress())


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _confirm(yes: bool) -> Callable[[str], bool]:
    if yes:
        return lambda question: True
    if not sys.stdin.isatty():
        return lambda question: False
    return lambda question: typer.confirm(question, err=True)


def _row(row: dict[str, Any]) -> str:
    """One entry of a list: its name, what it is, and below it the settings and the source where it has them."""
    about = row["about"]
    if "transform" in row:
        bound = row["bound"]
        told = "" if bound is None else f" = {'yes' if bound else 'no'}" if isinstance(bound, bool) else f" = {bound:g}"
        about = f"{row['transform']}{told}: {about}"
    lines = [f"{row['name']:<26} {about}"]
    if "strategies" in row:
        lines.append(f"{'':<26} {json.dumps(row['strategies'])}; needs {row['needs']}; costs {row['cost']}")
        lines += [f"{'':<26} {evidence}" for evidence in row["evidence"]]
    if "settings" in row:
        settings = ", ".join(f"{key}={value!r}" for key, value in row["settings"].items()) or "no settings"
        place = row["place"] + ("; experimental" if row["experimental"] else "")
        lines.append(f"{'':<26} {place}; {settings}; {row['source']}")
    return "\n".join(lines)


def _audit_table(result: dict[str, Any]) -> str:
    head = f"{result['n_images']:,} images, {result['n_patients']:,} groups by {result['group_by']}"
    lines = [
        head,
        f"{'class':<24}{'images':>9}{'groups':>9}{'share':>9}  {'severity':<10} recall in test will be known to",
    ]
    for row in result["classes"]:
        width = row["recall_interval_halfwidth"]
        known = "-" if width is None else f"within {100 * width:.0f} points"
        lines.append(
            f"{row['name']:<24}{row['n_images']:>9,}{row['n_patients']:>9,}{row['prevalence']:>9.2%}"
            f"  {row['severity']:<10} {known}"
        )
    return "\n".join(lines)


def _advice(result: dict[str, Any]) -> str:
    """The notes, then each arm with its reasons, evidence and cost, then what not to try."""
    lines = [*result["notes"], "", "arms"]
    for name, arm in result["arms"].items():
        lines.append(f"  {name}: {json.dumps(arm['strategies'])}")
        lines += [f"      {reason}" for reason in arm["why"]]
        lines += [f"      evidence: {'; '.join(arm['evidence'])}", f"      costs: {arm['cost']}"]
    lines += ["", "not to try"]
    lines += [f"  {row['what']}: {row['why']} ({row['evidence']})" for row in result["avoid"]]
    return "\n".join(lines)


def _augment_table(result: dict[str, Any]) -> str:
    """A line a transform: change over the spread of repeated photographs (or between lesions), and what it destroys."""
    key, against = ("to_between", "lesions") if result["not_judged"] else ("to_within", "photographs of one lesion")
    names = [row["feature"] for row in result["features"]]
    lines = [
        f"{result['n_lesions']:,} lesions, {result['n_lesions_repeated']:,} with several photographs; "
        f"preset {result['preset']}; median change / standard deviation among {against}",
        f"{'transform':<18}{'at':<34}{'preset':<8}" + "".join(f"{name:>12}" for name in names) + "  destroys",
    ]
    for row in [result["control"], *result["transforms"]]:
        ratios = [feature[key]["value"] for feature in row["features"]]
        cells = "".join(f"{'-' if ratio is None else f'{ratio:.2f}':>12}" for ratio in ratios)
        inside = "yes" if row["allowed"] else "no"
        lines.append(f"{row['name']:<18}{row['bound']:<34}{inside:<8}{cells}  {', '.join(row['destroys'])}".rstrip())
    return "\n".join([*lines, result["not_judged"] or result["rule"]])


if __name__ == "__main__":
    main()
