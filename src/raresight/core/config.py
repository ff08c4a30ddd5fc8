"""`study.yaml`: what it may say, with every unknown key refused and the nearest known one named."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from raresight.core.arm import Arm, check_sources
from raresight.core.errors import ConfigError, Problem, nearest
from raresight.core.presets import PRESETS
from raresight.core.task import Task

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(Section):
    manifest: str = "data/manifest.csv"
    root: str = "."
    images: bool = True
    uncertain: Literal["ignore", "positive", "negative", "refuse"] = "refuse"
    no_finding: Literal["drop", "keep"] = "drop"
    one_image_per_patient: bool = False
    boxes: str | None = None


class TaskSection(Section):
    kind: Literal["exclusive", "independent"]
    classes: list[str] = Field(min_length=1)
    critical: list[str] = []

    @model_validator(mode="after")
    def _classes_are_distinct(self) -> TaskSection:
        twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
        if twice:
            raise ValueError(f"classes named twice: {', '.join(twice)}")
        return self


class SplitSection(Section):
    train: Share = 0.7
    val: Share = 0.1
    test: Share = 0.2
    group: str = "patient_id"
    seed: int = 0
    folds: Annotated[int, Field(ge=0, le=20)] = 0
    column: str | None = None

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> SplitSection:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + val + test is {total:g}; the three shares must sum to 1")
        if self.folds == 1:
            raise ValueError("one fold leaves nothing to train on; use 0 (off) or 2 to 20")
        if self.train + (self.val if self.folds else 0) <= 0:
            raise ValueError("these shares leave nothing to train on")
        return self


class FloorSection(Section):
    """What a class's threshold must reach on validation: a sensitivity or a specificity, not both."""

    sensitivity: Annotated[float, Field(gt=0, le=1)] | None = None
    specificity: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> FloorSection:
        if (self.sensitivity is None) == (self.specificity is None):
            raise ValueError("a floor is one of sensitivity and specificity; the other one follows from the data")
        return self


class DecisionSection(Section):
    """What a decision is about, and how it is made.

    `floors`: class -> the floor its threshold must reach, instead of the cheapest or Youden's. `subgroups`: columns of
    the manifest by which figures are told apart. `miscoverage`: the share of cases of each class that a conformal set
    may miss. `refer`: the largest share of cases that may be referred to a human as "not sure"; 0 refers none.
    """

    unit: str = "image"
    column: str | None = None
    aggregate: Literal["max", "mean"] = "max"
    floors: dict[str, FloorSection] = {}
    subgroups: list[str] = []
    miscoverage: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    refer: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class ImageSection(Section):
    size: Annotated[int, Field(ge=8, le=4096)] = 224
    preset: str = "none"
    channels: Literal[1, 3] = 3

    @model_validator(mode="after")
    def _known_preset(self) -> ImageSection:
        if self.preset not in PRESETS:
            close = nearest(self.preset, PRESETS)
            hint = f"; did you mean '{close}'?" if close else ""
            raise ValueError(f"unknown preset '{self.preset}' (known: {', '.join(PRESETS)}){hint}")
        return self


class ModelSection(Section):
    backbone: str = "resnet18"
    pretrained: bool | str = True


class TrainSection(Section):
    epochs: Annotated[int, Field(ge=1)] = 30
    steps: Annotated[int, Field(ge=1)] | None = None
    head_steps: Annotated[int, Field(ge=1)] | None = None
    batch: Annotated[int, Field(ge=1)] = 64
    optimiser: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup: Share = 0.05
    clip: Positive | None = None
    accumulate: Annotated[int, Field(ge=1)] = 1
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: Annotated[int, Field(ge=1)] | None = None
    compile: Literal["auto", True, False] = "auto"
    select: Literal["macro_auprc", "macro_auroc", "macro_f1", "balanced_accuracy", "expected_cost"] = "macro_auprc"
    evaluate_every: Annotated[int, Field(ge=1)] | None = None
    views: Annotated[int, Field(ge=1, le=64)] = 4


class CostSection(Section):
    """Prices in false alarms.

    `missed`: what one missed case of a class costs. `prevalence`: its share where the model will be used. `matrix`
    (exclusive labels): true class -> class said instead -> cost; pairs that are not named cost 1. `referral`: what one
    case referred to a human costs.
    """

    missed: dict[str, Positive] = {}
    prevalence: dict[str, Annotated[float, Field(gt=0, lt=1)]] = {}
    matrix: dict[str, dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]] = {}
    referral: Positive | None = None


class NeedsSection(Section):
    """What one run asks of a cluster; it changes where a run is trained, never what comes out.

    `cpus`: default the study's threads. `gpus`: default 1 where the study is locked to a GPU; a share, such as 0.5, on
    Ray alone. `memory_gb` (10^9 bytes): not asked for by default. `hours`: SLURM's limit, after which a run is requeued
    and goes on.
    """

    cpus: Annotated[int, Field(ge=1)] | None = None
    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    memory_gb: Positive | None = None
    hours: Positive | None = None


class ResourcesSection(NeedsSection):
    """The needs of all runs, and of single arms where they differ."""

    arms: dict[str, NeedsSection] = {}


class AcceptSection(Section):
    sensitivity_low: Share | None = None
    specificity_low: Share | None = None
    alarms_per_1000_max: Annotated[float, Field(ge=0)] | None = None


class StudyConfig(Section):
    """Everything a study is asked to do. Shares lie in [0, 1]; `steps` overrides `epochs`.

    `arms: auto` and no arms at all are one: `raresight run` asks `advise` for them.
    """

    data: DataSection = DataSection()
    task: TaskSection
    split: SplitSection = SplitSection()
    decision: DecisionSection = DecisionSection()
    image: ImageSection = ImageSection()
    model: ModelSection = ModelSection()
    train: TrainSection = TrainSection()
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    arms: dict[str, Any] = {"baseline": []}
    resources: ResourcesSection = ResourcesSection()
    costs: CostSection = CostSection()
    accept: dict[str, AcceptSection] = {}
    intended_use: str = ""
    quick: bool = False

    @field_validator("arms", mode="before")
    @classmethod
    def _auto_is_none_yet(cls, written: Any) -> Any:
        return {} if written == "auto" or written is None else written

    @model_validator(mode="after")
    def _names_agree(self) -> StudyConfig:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {self.seeds} name one run twice; each seed is a run of its own")
        named: dict[str, dict[str, Any]] = {
            "costs.missed": self.costs.missed,
            "costs.prevalence": self.costs.prevalence,
            "costs.matrix": self.costs.matrix | {said: 0 for row in self.costs.matrix.values() for said in row},
            "decision.floors": self.decision.floors,
            "accept": self.accept,
        }
        for place, entries in named.items():
            for name in entries:
                if name not in self.task.classes:
                    close = nearest(name, self.task.classes)
                    hint = f"; did you mean '{close}'?" if close else ""
                    raise ValueError(f"{place} names '{name}', which is not a class of task.classes{hint}")
        for name in self.resources.arms:
            if self.arms and name not in self.arms:
                close = nearest(name, self.arms)
                hint = f"; did you mean '{close}'?" if close else ""
                raise ValueError(f"resources.arms names '{name}', which is not an arm of this study{hint}")
        without_cost = [name for name in self.task.critical if name not in self.costs.missed]
        if self.train.select == "expected_cost" and without_cost:
            raise ValueError(
                f"select: expected_cost needs costs.missed for every critical class; missing {without_cost}"
            )
        return self

    @property
    def problem(self) -> Task:
        return Task(self.task.kind, tuple(self.task.classes), tuple(self.task.critical))

    @property
    def parsed_arms(self) -> list[Arm]:
        arms = [Arm.parse(name, written) for name, written in self.arms.items()]
        check_sources(arms)
        return arms

    def for_arm(self, arm: Arm) -> StudyConfig:
        """These settings with the arm's budget and network: its own, or that of the arm whose features it takes."""
        source = next((other for other in self.parsed_arms if other.name == arm.frozen), arm)
        changed: dict[str, Any] = {}
        if source.backbone is not None:
            changed["model"] = self.model.model_copy(update={"backbone": source.backbone})
        if arm.budget > 1:
            longer = {"epochs": self.train.epochs * arm.budget}
            longer |= {} if self.train.steps is None else {"steps": self.train.steps * arm.budget}
            changed["train"] = self.train.model_copy(update=longer)
        return self.model_copy(update=changed) if changed else self


def load_config(path: Path) -> StudyConfig:
    """Read and validate a `study.yaml`.

    Raises: `ConfigError` with one problem per wrong entry: key, value given, what is allowed, nearest known key.
    """
    if not path.is_file():
        raise ConfigError(
            Problem(
                code="RS-C01",
                level="error",
                file=str(path),
                found="no study.yaml here",
                why="a study folder is made by `raresight init`",
                remedy=f"raresight init {shlex.quote(str(path.parent))} --from csv TABLE.csv",
            )
        )
    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as cause:
        mark = getattr(cause, "problem_mark", None)
        raise ConfigError(
            Problem(
                code="RS-C02",
                level="error",
                file=str(path),
                row=mark.line + 1 if mark else None,
                found=f"not readable as YAML: {getattr(cause, 'problem', None) or cause}",
                why="nothing can be run from it",
                remedy="mend the line (indent with spaces, not tabs); `raresight init` writes a commented example",
            )
        ) from cause
    return parse_config(written, str(path))


def parse_config(written: Any, file: str = "study.yaml") -> StudyConfig:
    """Validate an already parsed `study.yaml`; see `load_config`."""
    if not isinstance(written, dict):
        written = {}
    try:
        config = StudyConfig.model_validate(written)
        _ = config.problem, config.parsed_arms
        return config
    except ValidationError as cause:
        raise ConfigError(*(_as_problem(error, file) for error in cause.errors())) from None


def _as_problem(error: Any, file: str) -> Problem:
    location = [str(part) for part in error["loc"]]
    place = ".".join(location)
    if error["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = nearest(location[-1], known)
        return Problem(
            code="RS-C33",
            level="error",
            file=file,
            column=place,
            found=f"unknown key '{location[-1]}'",
            why="a misspelt setting would silently keep its default",
            remedy=f"did you mean '{close}'?" if close else f"known keys here: {', '.join(known)}",
        )
    if location[:1] == ["costs"] and len(location) > 1 and error["type"] != "missing":
        return _cost_problem(error, file, location)
    message = error["msg"].removeprefix("Value error, ")
    given = "" if error["type"] in {"missing", "value_error"} else f" (given: {error['input']!r})"
    where = f"'{place}'" if place else "the entry named"
    return Problem(
        code="RS-C34",
        level="error",
        file=file,
        column=place or None,
        found=f"{message}{given}",
        why="the study cannot run with this value",
        remedy=f"add '{place}'" if error["type"] == "missing" else f"change {where} accordingly",
    )


def _cost_problem(error: Any, file: str, location: list[str]) -> Problem:
    """A cost that is no price, or a prevalence that is no share: the same words as for a file of costs."""
    given, entry = error["input"], location[1]
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if len(location) == 2 and entry != "referral":
        found, remedy = f"{given!r} is not a table of classes", f"write {entry}: {{CLASS: ...}}"
    elif entry == "missed":
        free = f"a cost of {given!r} makes missing '{location[2]}' free or a gain: the error cheaper than being right"
        found, remedy = free if number else f"{given!r} is not a cost", "write a cost above 0, in false alarms"
    elif entry == "matrix":
        gain = f"a cost of {given!r} makes an error a gain: cheaper than the correct answer"
        row = len(location) == 3
        found = f"{given!r} is not a {'row of costs' if row else 'cost'}" if row or not number else gain
        remedy = "write matrix: {TRUE: {SAID: cost}} with costs of 0 or more, in false alarms"
    elif entry == "referral":
        found = f"a referral that costs {given!r}: a human's look is not free"
        remedy = "write a cost above 0, in false alarms, or leave it out"
    else:
        percent = number and 1 <= given < 100
        found = f"a prevalence of {given!r} lies outside (0, 1)"
        remedy = f"did you mean {given / 100:g} ({given:g}%)?" if percent else "write a share between 0 and 1"
    return Problem(
        code="RS-C39" if entry == "prevalence" else "RS-C37",
        level="error",
        file=file,
        column=".".join(location),
        found=found,
        why="thresholds and recommendations follow from the costs",
        remedy=remedy,
    )


def _known_keys(location: list[str]) -> list[str]:
    model: type[BaseModel] = StudyConfig
    for part in location:
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
        elif part in ("accept", "floors"):
            model = AcceptSection if part == "accept" else FloorSection
    return list(model.model_fields)
