"""The report in a real browser with the network cut: silent, self-sufficient, and its explorer computes as Python does.

Without Playwright or a Chromium on PATH (or in RARESIGHT_CHROMIUM) these tests are skipped.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from raresight.core.predictions import Predictions, tabulate
from raresight.core.task import Task
from raresight.evaluate.estimates import estimate
from raresight.report.content import ArmResult, Content
from raresight.report.explorer import at, cheapest, explorer_data, record_of
from raresight.report.page import write
from raresight.report.words import class_name

CHROMIUM = os.environ.get("RARESIGHT_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
TASK = Task("exclusive", ("nevus", "melanoma", "bcc", "absent"), ("melanoma", "absent"))
THRESHOLDS = {"nevus": 0.6, "melanoma": 0.15, "bcc": 0.1}
FIGURES = ("recall", "specificity", "ppv", "npv", "alarms_per_1000", "misses_per_100000", "number_needed_to_read",
           "net_benefit", "expected_cost")  # fmt: skip


def content(part: str) -> Content:
    """400 images of 250 patients, a class in 6 and one in 20, the last in none; two arms."""
    rng = np.random.default_rng(len(part))
    label = rng.choice(4, 400, p=[0.78, 0.17, 0.05, 0])
    target = np.eye(4)[label]
    people = pd.DataFrame({"patient_id": np.char.add("p", rng.integers(0, 250, 400).astype(str)).astype(object)})
    cases = np.char.add("c", np.arange(400).astype(str)).astype(object)
    arms = []
    for name, skill in (("baseline", 1.5), ("</script><b>focal", 2.5)):
        logits = rng.normal(size=(400, 4)) + skill * target + [2, 0.5, -0.5, -3]
        predictions = Predictions(tabulate(TASK, cases, logits, target, people), TASK, name, 0, part)
        operating: Any = "frozen" if part == "test" else "tuned"
        found = estimate(predictions, thresholds=THRESHOLDS, operating=operating, resamples=20)
        arms.append(ArmResult(name, predictions=(predictions,), thresholds=THRESHOLDS, estimates=tuple(found)))
    opened = (
        (dict.fromkeys(("opening", "time", "reason", "plan_sha256", "data_sha256"), "1"),) if part == "test" else ()
    )
    return Content(
        TASK, part=part, arms=tuple(arms), baseline="baseline", prevalence={"melanoma": 0.02}, missed={"melanoma": 20},
        ledger=opened,
    )  # fmt: skip


@dataclass
class Seen:
    """A page in the browser, and all that it tried to do."""

    page: Any
    data: dict[str, Any]
    size: int
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, tuple[float | None, ...]]:
        cells = self.page.eval_on_selector_all(
            "[data-figure]", "all => all.map(c => [c.dataset.figure, c.dataset.value, c.dataset.low, c.dataset.high])"
        )
        return {key: tuple(None if v == "null" else float(v) for v in values) for key, *values in cells}

    def slide(self, which: str, value: float) -> None:
        self.page.eval_on_selector(
            f"#ex-{which}", "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", str(value)
        )

    def choose(self, class_: str, arm: str | None = None) -> None:
        if arm is not None:
            self.page.select_option("#ex-arm", label=arm)
        self.page.select_option("#ex-class", label=class_name(class_))

    def watermark(self) -> str:
        mark = self.page.locator("#ex-watermark")
        return mark.inner_text() if mark.is_visible() else ""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH and none named in RARESIGHT_CHROMIUM")
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module", params=["test", "val"])
def written(request: pytest.FixtureRequest, folder: Path) -> tuple[Content, Path]:
    made = content(request.param)
    write(made, folder / request.param)
    return made, folder / request.param / "report.html"


@pytest.fixture
def seen(browser: Any, written: tuple[Content, Path]) -> Iterator[Seen]:
    yield from opened(browser, *written)


def opened(browser: Any, made: Content, path: Path, **options: Any) -> Iterator[Seen]:
    """The page in a context that is offline and lets nothing through but the file itself."""
    context = browser.new_context(offline=True, **{"viewport": {"width": 1280, "height": 900}, **options})
    data = explorer_data(made)
    assert data is not None
    context.set_default_timeout(8000)
    one = Seen(context.new_page(), data, path.stat().st_size)
    own = path.as_uri()
    context.route("**/*", lambda route: route.continue_() if route.request.url == own else route.abort())
    one.page.on("request", lambda request: one.requests.append(request.url) if request.url != own else None)
    one.page.on("requestfailed", lambda request: one.failures.append(request.failure))
    one.page.on("console", lambda message: one.errors.append(message.text))
    one.page.on("pageerror", lambda error: one.errors.append(str(error)))
    one.page.goto(own)
    yield one
    context.close()


def test_nothing_leaves_and_nothing_fails(seen: Seen) -> None:
    for class_ in ("melanoma", "absent", "bcc", "nevus"):
        seen.choose(class_, "</script><b>focal")
        for value in (0, 40, 1):
            seen.slide("threshold", value)
    assert seen.errors == []
    assert seen.requests == []
    assert seen.size < 5_000_000
    assert seen.page.evaluate("document.getAnimations().length") == 0


def test_the_policy_stops_what_a_fault_would_fetch_or_run(seen: Seen) -> None:
    seen.page.evaluate(
        """() => {
            const image = document.createElement("img"), script = document.createElement("script");
            image.src = "https://example.org/a.png";
            script.textContent = "window.ran = true";
            document.body.append(image, script);
        }"""
    )
    seen.page.wait_for_timeout(100)
    assert seen.page.evaluate("window.ran") is None
    assert len([text for text in seen.errors if "Content Security Policy" in text]) == 2
    assert seen.failures == ["csp"]  # refused by the page's own policy, before the cut network could


def test_the_explorer_computes_as_python_does(seen: Seen) -> None:
    """At ten random settings all nine figures and their bounds agree to 1e-9, and are written as they are."""
    rng = np.random.default_rng(7)
    compared = 0
    for _ in range(10):
        arm = seen.data["arms"][rng.integers(2)]["name"]
        class_ = str(rng.choice(["nevus", "melanoma", "bcc"]))
        record = record_of(seen.data, class_, arm)
        step = int(rng.integers(len(record["t"])))
        log_prevalence, log_cost = round(rng.uniform(-5, -0.05), 2), round(rng.uniform(0, 3), 2)
        seen.choose(class_, arm)
        seen.slide("threshold", len(record["t"]) - 1 - step)
        seen.slide("prevalence", log_prevalence)
        seen.slide("cost", log_cost)
        prevalence, cost = (float(f"{10**exponent:.2g}") for exponent in (log_prevalence, log_cost))
        threshold = record["t"][step]
        expected = at(seen.data, class_, np.inf if threshold is None else threshold, prevalence, cost, arm)
        found = seen.figures()
        assert tuple(found) == FIGURES
        for key in FIGURES:
            for ours, theirs in zip(expected[key], found[key], strict=True):
                assert (ours is None) == (theirs is None), (key, expected[key], found[key])
                if ours is not None and theirs is not None:
                    assert theirs == pytest.approx(ours, rel=1e-9, abs=1e-9), key
                    compared += 1
        written_recall = float(seen.page.inner_text("[data-figure=recall] b").strip("<>%"))
        assert written_recall == pytest.approx(100 * expected["recall"][0], abs=0.0501)
    assert compared > 200


def test_the_start_is_the_frozen_point_with_what_was_stated(seen: Seen) -> None:
    record = record_of(seen.data, "melanoma")
    assert seen.page.inner_text("#ex-threshold-said") == f"0.150, the {seen.data['mark_name']}"
    assert seen.page.inner_text("#ex-prevalence-said") == "2.0%, as stated"
    assert seen.page.inner_text("#ex-cost-said") == "20 false alarms, as stated"
    expected = at(seen.data, "melanoma", 0.15, 0.02, 20)
    assert seen.figures()["net_benefit"] == pytest.approx(expected["net_benefit"])
    assert record["t"][record["start"]] == 0.15
    seen.choose("bcc")
    assert seen.page.inner_text("#ex-cost-said") == "10 false alarms, nobody said"


def test_off_the_frozen_point_a_test_page_says_exploratory(seen: Seen) -> None:
    test = seen.data["part"] == "test"
    assert seen.watermark() == ""
    seen.slide("prevalence", -3)
    assert seen.watermark() == ""  # prevalence and costs are not chosen on these patients
    seen.page.focus("#ex-threshold")
    seen.page.keyboard.press("ArrowRight")
    said = "the frozen point was chosen before the test part was opened"
    assert (said in seen.watermark()) is test
    overlay = "getComputedStyle(document.querySelector('#ex-plots'), '::after').content"
    assert ("exploratory" in seen.page.evaluate(overlay)) is test
    seen.page.click("#ex-reset")
    assert seen.watermark() == ""
    assert seen.page.is_disabled("#ex-reset")
    assert seen.figures()["misses_per_100000"] == pytest.approx(
        at(seen.data, "melanoma", 0.15, 0.02, 20)["misses_per_100000"]
    )


def test_a_cheapest_threshold_is_offered_on_validation_only(seen: Seen) -> None:
    seen.slide("cost", 2)
    button = seen.page.locator("#ex-cheapest")
    if seen.data["part"] == "test":
        assert not button.is_visible() and seen.page.inner_text("#ex-hint") == ""
        return
    record = record_of(seen.data, "melanoma")
    best = cheapest(record, 0.02, 100)
    assert best != record["start"]
    button.click()
    assert int(seen.page.input_value("#ex-threshold")) == len(record["t"]) - 1 - best
    assert seen.page.inner_text("#ex-hint") == "This is the cheapest threshold on the validation part."
    assert not button.is_visible()


def test_an_absent_class_has_a_reason_and_no_figures(seen: Seen) -> None:
    seen.choose("absent")
    assert seen.page.inner_text("#ex-why") == "Not estimable for absent, because no case has the class in this part."
    assert not seen.page.locator("#ex-body").is_visible()
    seen.choose("bcc")
    assert seen.page.locator("#ex-body").is_visible() and not seen.page.locator("#ex-why").is_visible()


def test_the_keyboard_moves_the_sliders_and_the_change_is_spoken(seen: Seen) -> None:
    first = seen.page.locator("a.skip")
    seen.page.keyboard.press("Tab")
    assert first.evaluate("e => e === document.activeElement && e.getBoundingClientRect().left >= 0")
    before = seen.figures()["alarms_per_1000"]
    seen.page.focus("#ex-threshold")
    assert "solid" in seen.page.eval_on_selector("#ex-threshold", "e => getComputedStyle(e).outlineStyle")
    seen.page.keyboard.press("ArrowLeft")
    more = seen.figures()["alarms_per_1000"]
    assert more[0] > before[0]
    seen.page.keyboard.press("End")
    assert seen.page.inner_text("#ex-threshold-said") == "above every score"
    assert seen.page.get_attribute("#ex-threshold", "aria-valuetext") == "above every score"
    assert seen.figures()["ppv"] == (None, None, None)
    assert seen.page.get_attribute("#ex-live", "aria-live") == "polite"
    seen.page.locator("#ex-live", has_text="Found: 0 of").wait_for(state="attached")


def test_every_control_has_a_name_and_every_picture_words(seen: Seen) -> None:
    for role, names in {
        "slider": ("Threshold", "Prevalence", "A miss is as bad as"),
        "combobox": ("Class", "Arm"),
    }.items():
        for name in names:
            assert seen.page.get_by_role(role, name=re.compile(f"^{name}")).count() == 1, name
    nameless = seen.page.evaluate(
        """() => [...document.querySelectorAll("svg, img")].filter(e => {
            const named = e.closest("[role=img][aria-label], [aria-hidden=true]");
            return !(named && (named.ariaHidden || named.ariaLabel.length > 20)) && !(e.alt || "").length;
        }).map(e => e.outerHTML.slice(0, 80))"""
    )
    assert nameless == []
    levels = seen.page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(e => Number(e.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    unlinked = "[...document.querySelectorAll('nav a, a.skip')].filter(a => !document.querySelector(a.hash)).length"
    assert seen.page.evaluate(unlinked) == 0


def test_paper_shows_the_table_and_no_sliders(seen: Seen) -> None:
    seen.slide("threshold", 3)
    seen.page.emulate_media(media="print")
    assert not seen.page.locator("#explorer-live").is_visible()
    table = seen.page.locator("#explorer table").first
    assert table.is_visible()
    recall = at(seen.data, "melanoma", 0.15, 0.02, 20)["recall"]
    row = table.locator("tr", has=seen.page.get_by_role("rowheader", name="melanoma")).inner_text()
    assert f"{100 * recall[0]:.1f}% ({100 * recall[1]:.1f}%" in row  # of the frozen point, wherever the sliders are
    assert "not estimable" in table.locator("tr", has_text="absent").inner_text()


def test_a_phone_scrolls_down_only(browser: Any, written: tuple[Content, Path]) -> None:
    for seen in opened(browser, *written, viewport={"width": 390, "height": 844}, has_touch=True):
        assert seen.page.evaluate("document.documentElement.scrollWidth") == 390
        wide = seen.page.evaluate(
            """() => [...document.querySelectorAll("#explorer-live *")]
                .filter(e => e.getBoundingClientRect().right > 390).map(e => e.outerHTML.slice(0, 60))"""
        )
        assert wide == []


def test_without_scripts_the_table_is_there(browser: Any, written: tuple[Content, Path]) -> None:
    for seen in opened(browser, *written, java_script_enabled=False):
        assert seen.page.locator("#explorer table").first.is_visible()
        assert not seen.page.locator("#explorer-live").is_visible()
