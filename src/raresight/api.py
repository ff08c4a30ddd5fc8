"""The public verbs, about one page. `raresight.Study` mirrors the command line; nothing here has logic of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raresight.core.progress import Silent

if TYPE_CHECKING:
    import pandas as pd

    from raresight.core.bundle import Bundle
    from raresight.core.estimate import Estimate
    from raresight.core.folds import Part
    from raresight.core.run import RunFolder
    from raresight.core.task import Task
    from raresight.data.read import ReadOptions
    from raresight.explain.look import Look
    from raresight.verbs.opened import OpenStudy
    from raresight.verbs.own_loop import Arrays


class Study:
    """A study folder and its verbs: `Study.open("study").audit()`. Every verb skips what is done and current."""

    def __init__(self, path: str | Path, progress: Silent | None = None) -> None:
        self.path = Path(path)
        self.progress = progress or Silent()

    @classmethod
    def open(cls, path: str | Path, progress: Silent | None = None) -> Study:
        """Open an existing study; raises `ConfigError` where `study.yaml` is missing or wrong."""
        study = cls(path, progress)
        study._opened()
        return study

    @classmethod
    def init(
        cls, path: str | Path, kind: str, source: str | Path, options: ReadOptions | None = None, *, quick: bool = False
    ) -> Study:
        """Make a study from a source: csv, folder, ham10000, chestxray14 or medmnist."""
        from raresight.data.read import ReadOptions
        from raresight.verbs.init import init

        init(Path(path), kind, Path(source), options or ReadOptions(), quick=quick)
        return cls(path)

    def _opened(self) -> OpenStudy:
        from raresight.verbs.opened import OpenStudy

        return OpenStudy.open(self.path, self.progress)

    def check(self) -> list[dict[str, Any]]:
        from raresight.verbs.check import check

        return check(self._opened())

    def require_strict(self) -> None:
        """Raise `GateError` for too few patients, or pictures turned upside down; see `raresight.verbs.strict`."""
        from raresight.verbs.strict import require_strict

        require_strict(self._checked())

    def fix_plan(self) -> Path:
        """Write what the last check found as `data/fix_plan.csv`, a row to mend a line."""
        from raresight.verbs.fix_plan import fix_plan

        return fix_plan(self._opened().folder.issues)

    def audit(self) -> dict[str, Any]:
        from raresight.verbs.audit import audit

        return audit(self._checked())

    def advise(self, *, label_noise: str | None = None, write: bool = True, force: bool = False) -> dict[str, Any]:
        """The arms that suit the data, written into `study.yaml`; see `raresight.verbs.advise`."""
        from raresight.verbs.advise import advise

        return advise(self._checked(), label_noise=label_noise, write=write, force=force)

    def augment_audit(self) -> dict[str, Any]:
        """How far the preset's transforms move what a diagnosis rests on; needs lesion masks."""
        from raresight.verbs.augment_audit import augment_audit

        return augment_audit(self._checked())

    def split(self) -> dict[str, Any]:
        from raresight.verbs.split import split

        return split(self._checked())

    def train(
        self, *, arms: Sequence[str] = (), seeds: Sequence[int] = (), on: str | None = None, **where: Any
    ) -> list[RunFolder]:
        """Every missing run; `on`: "ray" (`address`) or "slurm" (`partition`, `wait`); see `verbs.train_on`."""
        from raresight.verbs.train_on import train_on

        return train_on(self._opened(), on, arms=arms, seeds=seeds, **where)

    def dry_run(self, *, arms: Sequence[str] = ()) -> list[dict[str, Any]]:
        from raresight.verbs.dry_run import dry_run

        return dry_run(self._opened(), arms)

    def tune(self) -> list[dict[str, Any]]:
        from raresight.verbs.tune import tune

        return tune(self._opened())

    def evaluate(self) -> list[Estimate]:
        """Estimates on the validation part."""
        from raresight.verbs.evaluate import evaluate_val

        return evaluate_val(self._opened())

    def open_test(
        self, *, confirm: Callable[[str], bool] = lambda question: True, reuse: bool = False, reason: str = ""
    ) -> list[Estimate]:
        """Estimates on the test part, recorded in the ledger."""
        from raresight.verbs.evaluate import evaluate_test

        return evaluate_test(self._opened(), confirm=confirm, reuse=reuse, reason=reason)

    def compare(self) -> dict[str, Any]:
        from raresight.verbs.compare import compare

        return compare(self._opened())

    def sweep(self, cls: str, prevalences: Sequence[str | float], **options: Any) -> dict[str, Any]:
        """One class thinned in training, and which arm suits which severity; see `raresight.verbs.sweep`."""
        from raresight.verbs.sweep import sweep

        return sweep(self._opened(), cls, prevalences, **options)

    def explain(self, **options: Any) -> dict[str, Any]:
        """What the networks look at, encode and separate: `arms`, `seeds`, `part`, `tasks`, `methods`, `layers`; see
        `raresight.verbs.explain`."""
        from raresight.verbs.explain import explain

        return explain(self._opened(), **options)

    def freeze(self, **options: Any) -> Bundle:
        """One arm at its operating point as a bundle: `arm`, `seed`, `out`, `force`; see `raresight.verbs.freeze`."""
        from raresight.verbs.freeze import freeze

        return freeze(self._opened(), **options)

    def report(self, *, thumbnails: bool = False) -> Path:
        """The page; `thumbnails` embeds small pictures of the cases in its failure gallery."""
        from raresight.verbs.report import report

        return report(self._opened(), thumbnails=thumbnails)

    def run(
        self,
        *,
        open_test: bool = False,
        strict: bool = False,
        confirm: Callable[[str], bool] = lambda question: True,
    ) -> Path | None:
        from raresight.verbs.run import run

        return run(self._opened(), open_test=open_test, strict=strict, confirm=confirm)

    def status(self) -> dict[str, Any]:
        from raresight.verbs.status import status

        return status(self._opened())

    def arrays(self, part: Part) -> Arrays:
        """Images and labels of `train` or `val` for a training loop of your own."""
        from raresight.verbs.own_loop import arrays

        return arrays(self._opened(), part)

    def write_predictions(self, path: str | Path, part: Part, logits: Any) -> Path:
        """Write `(N, K)` logits of a part as a predictions table that `score` and `arms: predictions:` read."""
        from raresight.verbs.own_loop import write_predictions

        return write_predictions(self._opened(), Path(path), part, logits)

    @property
    def task(self) -> Task:
        return self._opened().task

    def _checked(self) -> OpenStudy:
        """The study after a check of its input, run where it is missing or stale."""
        from raresight.verbs.check import check, is_current

        study = self._opened()
        if not is_current(study):
            check(study)
        return study


def score(tests: Sequence[str | Path], out: str | Path, **options: Any) -> dict[str, Any]:
    """The evaluation and report of anybody's predictions; see `raresight.verbs.score`."""
    from raresight.verbs.score import score as score_files

    return score_files([Path(path) for path in tests], Path(out), **options)


def predict(bundle: str | Path, paths: Sequence[str | Path], **options: Any) -> pd.DataFrame:
    """A frozen bundle's decisions about pictures, a row each; see `raresight.verbs.predict`."""
    from raresight.verbs.predict import predict as decide

    return decide(Path(bundle), [Path(path) for path in paths], **options)


def validate(bundle: str | Path, manifest: str | Path, *, site: str, **options: Any) -> dict[str, Any]:
    """A frozen bundle, unchanged, on labelled data from elsewhere; see `raresight.verbs.validate`."""
    from raresight.verbs.validate import validate as judge

    return judge(Path(bundle), Path(manifest), site=site, **options)


def monitor(bundle: str | Path, predictions: str | Path, **options: Any) -> dict[str, Any]:
    """Drift of scores, alarms and prevalence since validation, without labels; see `raresight.verbs.monitor`."""
    from raresight.verbs.monitor import monitor as watch

    return watch(Path(bundle), Path(predictions), **options)


def look(**options: Any) -> Look:
    """Anybody's networks, arms and seeds side by side: `arms`, `probe`, and more; see `raresight.explain.look`."""
    from raresight.core.extras import need

    need("torch", extra="train", feature="looking into networks")
    from raresight.explain.look import look as look_into

    return look_into(**options)


def demo(out: str | Path = "demo", *, progress: Silent | None = None) -> Path:
    """The whole line on the built-in phantom; returns the report's path."""
    from raresight.verbs.demo import demo as run_demo

    return run_demo(Path(out), progress=progress)


def listing(what: str = "strategies") -> dict[str, Any]:
    """What there is: strategies, arms, datasets, metrics or presets."""
    from raresight.verbs.listing import listing as rows

    return rows(what)


def doctor(path: str | Path = ".") -> dict[str, Any]:
    """Versions, devices, determinism, disk and shared memory."""
    from raresight.verbs.doctor import doctor as examine

    return examine(Path(path))


def verdict_lines(found: dict[str, Any]) -> str:
    """What `Study.explain` answered, as text: a line for each arm and class."""
    from raresight.report.look_reasons import verdict_lines
    from raresight.report.look_rows import Look

    return verdict_lines(Look(found))
