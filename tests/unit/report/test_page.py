"""The page: self-contained, deterministic, escaped, and saying what it must."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from raresight.core.run import StudyFolder
from raresight.report.content import Content
from raresight.report.gather import from_study
from raresight.report.page import render, write
from raresight.report.sections import sections

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Outline(HTMLParser):
    """The page's text by section, the nesting of its elements, and the attributes of drawings."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.drawings: list[dict[str, str | None]] = []
        self.counts: dict[str, int] = {}
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if dict(attrs).get("role") == "img":
            self.drawings.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1] if self.open else 'nothing'}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not {"style", "script", "svg"} & set(self.open):
            self.text.append(data)


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", "".join(Outline(page).text))


def test_rendering_twice_gives_the_same_bytes(opened: Content, opened_page: str) -> None:
    assert render(opened) == opened_page


def test_nothing_is_fetched_and_one_script_runs(opened_page: str) -> None:
    """The explorer's script, which the content security policy names by its hash, and a block of data."""
    assert "://" not in opened_page
    assert not re.search(r"\b(src|srcset)=|url\(\s*[\"']?(?!#)|@import", opened_page)
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", opened_page, flags=re.S)
    assert [attributes for attributes, _ in scripts] == [' type="application/json" id="explorer-data"', ""]
    digest = base64.b64encode(hashlib.sha256(scripts[1][1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}';" in opened_page
    assert not re.search(r"<[a-z][^>]*\son[a-z]+=", opened_page)
    assert len(opened_page.encode()) < 1_500_000


def test_elements_are_nested_and_every_drawing_has_words(opened_page: str, unopened_page: str) -> None:
    for page in (opened_page, unopened_page):
        outline = Outline(page)
        assert outline.open == []
        assert len(outline.drawings) >= 12
        assert all(len(drawing.get("aria-label") or "") > 20 for drawing in outline.drawings)


def test_every_drawing_has_a_table_with_numbers(opened: Content) -> None:
    figures = [item.figure for section in sections(opened) for item in section.items if item.figure is not None]
    assert len(figures) >= 12
    for figure in figures:
        assert figure.table.rows
        assert {len(row.cells) for row in figure.table.rows} == {len(figure.table.head)}


def test_names_from_the_data_are_escaped(opened: Content, opened_page: str) -> None:
    assert opened.title == "skin <b>&amp; lesions"
    assert "skin &lt;b&gt;&amp;amp; lesions" in opened_page
    assert "<b>&amp; lesions" not in opened_page
    renamed = replace(opened.arms[0], name='<script>alert("x")</script>$y$')
    page = render(replace(opened, arms=(renamed, *opened.arms[1:]), baseline=renamed.name))
    assert "<script>alert" not in page
    assert page.count("<script") == 2  # in the data it is \\u003cscript
    assert Outline(page).open == []


def test_page_one_answers_in_plain_words(opened: Content, opened_page: str) -> None:
    text = text_of(opened_page)
    recall = opened.chosen.find("recall", "mel")
    assert recall.operating_point == "frozen"
    found, missed = round(100 * recall.value), 100 - round(100 * recall.value)
    low, high = round(100 * recall.low), round(100 * recall.high)
    assert f"Of 100 images with melanoma it finds {found} ({low}–{high}) and misses {missed}." in text
    assert f"From {recall.n_positive_patients} lesions with it" in text
    assert re.search(r"Per 1,000 images it raises \d+ \(\d+–\d+\) alarms, \S+ \(\d+–\d+\) of them false", text)
    assert "Test part opened once." in text
    assert "no external data were used" in text
    assert "no clinical evaluation was done" in text
    assert "QUICK" not in text


def test_a_validation_report_says_so(unopened_page: str) -> None:
    text = text_of(unopened_page)
    assert "QUICK: not for conclusions." in text
    assert "Test part not opened." in text
    assert "validation part: choices were made on these" in text
    assert "no choice was made on these" not in text


def test_an_absent_class_is_never_0_or_1(unopened: Content, unopened_page: str) -> None:
    recall = unopened.chosen.find("recall", "akiec")
    assert recall.value is None
    text = text_of(unopened_page)
    assert "with actinic keratosis it finds" not in text
    assert (
        "Not estimable: no case has 'akiec' in this part" in text or "Not estimable: the class has no threshold" in text
    )
    assert "Nothing can be said about actinic keratosis." in text
    rows = [
        row.cells
        for section in sections(unopened)
        if section.key in {"classes", "curves", "confusions"}
        for item in section.items
        if item.figure is not None
        for row in item.figure.table.rows
        if row.cells[0] == "actinic keratosis"
    ]
    assert len(rows) >= 3
    for cells in rows:
        assert "not estimable" in cells
        assert not any(re.match(r"^(0|0%|100%|1\.00|0\.00)( |$)", cell) for cell in cells[2:]), cells


def test_what_was_not_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("task: {kind: exclusive, classes: [a, b]}\n", encoding="utf-8")
    content = from_study(StudyFolder(tmp_path))
    text = text_of(render(content)).lower()
    reasons = [
        "not computed, because the data were not audited; run `raresight audit`",
        "not computed, because the data were not split; run `raresight split`",
        "not computed, because there is no manifest; run `raresight init`",
        "not computed, because the arms have not been compared; run `raresight compare`",
        "not computed, because no arm is trained and evaluated yet",
    ]
    for reason in reasons:
        assert reason in text
    assert "nan" not in re.findall(r"\w+", text)


def test_a_run_without_done_is_absent(tmp_path: Path) -> None:
    import fake_study

    folder = fake_study.make(tmp_path / "study", arms=("baseline", "hybrid"), opened=False, resamples=20)
    folder.run("hybrid", 0).done_marker.unlink()
    content = from_study(folder)
    assert [arm.name for arm in content.arms] == ["baseline"]
    assert content.unfinished == ("hybrid, seed 0",)
    assert "1 run not finished and left out." in text_of(render(replace(content, arms=(), audit=None)))


def test_report_json_for_programs(opened: Content, tmp_path: Path) -> None:
    write(opened, tmp_path / "report")
    summary = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert (tmp_path / "report" / "report.html").exists()
    assert summary["part"] == "test"
    assert summary["test_openings"] == 1
    assert summary["arm"] == opened.deploy["arm"]
    assert {row["class"] for row in summary["key_figures"] if row["class"]} == {"mel", "bcc", "akiec"}
    assert "external_validation" in {one["key"] for one in summary["limitations"]}
    assert {"study.yaml", "data/split.csv", "compare/compare.json"} <= set(summary["files"])
    assert all(len(digest) == 64 for digest in summary["files"].values())


@pytest.mark.parametrize("kind", ["exclusive", "independent"])
def test_predictions_alone_make_a_report(kind: str) -> None:
    content = in_memory(kind)
    text = text_of(render(content))
    assert "It is not known which choices were made on these patients" in text
    empty = text[text.rindex("What could not be shown") :]
    told = "Who is in the study, How rare is what, Who is in which part"
    assert empty.index(told) < empty.index("not computed, because predictions alone were given"), (
        "one reason, told once"
    )
    if kind == "independent":
        assert "labels are independent" in text


def in_memory(kind: str) -> Content:
    """120 cases of 60 patients, one class in ten, with some labels unknown where they can be."""
    import numpy as np
    import pandas as pd

    from raresight.core.predictions import Predictions, tabulate
    from raresight.core.task import Task
    from raresight.evaluate.estimates import estimate
    from raresight.report.content import ArmResult

    rng = np.random.default_rng(1)
    task = Task(kind, ("Hernia", "Pleural_Thickening"), ())
    rare = (np.arange(120) % 10 == 0).astype(np.float32)
    target = np.stack([rare, 1 - rare], axis=1)
    logits = rng.normal(size=(120, 2)) + 2 * target
    if kind == "independent":
        target[5, 0] = np.nan
    patients = np.array([f"p{i // 2}" for i in range(120)], dtype=object)
    cases = np.array([f"c{i}" for i in range(120)], dtype=object)
    predictions = Predictions(
        tabulate(task, cases, logits, target, pd.DataFrame({"patient_id": patients})), task, "model"
    )
    arm = ArmResult("model", predictions=(predictions,), estimates=tuple(estimate(predictions, resamples=20)))
    return Content(task=task, arms=(arm,))


def test_the_trivial_classifier_finds_only_what_it_always_says() -> None:
    """Pleural thickening is there in 9 of 10 cases, so always answering yes finds all of it, and no hernia."""
    from raresight.report.figures.paradox import paradox
    from raresight.report.figures.style import Figure

    figure = paradox(in_memory("exclusive"))
    assert isinstance(figure, Figure)
    assert figure.table.rows[0].cells[1:] == ("90% by construction", "0% by construction", "100% by construction")


def test_differences_are_told_in_words() -> None:
    from raresight.report.page import _told

    row = {"arm": "focal", "metric": "auprc", "class": "bcc", "difference": 0.031, "low": -0.012, "high": 0.07}
    told = _told(row | {"n_positive_patients": 12, "text": "focal: auprc of 'bcc' +0.031"})
    assert told == "focal: average precision for basal cell carcinoma +0.03 (-0.01 to +0.07), 12 with it"


def test_accuracy_stands_at_the_default_point_even_where_thresholds_are_tuned() -> None:
    from dataclasses import replace

    from raresight.core.estimate import Estimate
    from raresight.report.content import ArmResult
    from raresight.report.figures.paradox import _at

    tuned = Estimate(metric="accuracy", class_=None, arm="a", seed=None, part="test", unit="image",
                     operating_point="tuned", value=0.8)  # fmt: skip
    arm = ArmResult("a", estimates=(tuned, replace(tuned, operating_point="0.5", value=0.95)))
    shown = _at(arm, "0.5")
    assert shown is not None and shown.value == 0.95
