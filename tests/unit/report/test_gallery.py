"""The failure gallery and the subgroups of the page: pseudonyms, pictures only on request, hidden groups, words."""

from __future__ import annotations

import base64
import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from raresight.data.thumbnails import jpeg_uri
from raresight.evaluate.subgroups import subgroups as figures_of
from raresight.report.content import Content
from raresight.report.figures.gallery import TITLES, gallery, key, named_failures
from raresight.report.figures.mistaken import mistaken
from raresight.report.figures.style import Absent, Figure
from raresight.report.figures.subgroups import subgroup_differences, subgroups
from raresight.report.limitations import limitations
from raresight.report.sections import sections


def drawn(content: Content, kind: str) -> Figure:
    made = gallery(content, kind=kind, named=named_failures(content))
    assert isinstance(made, Figure)
    return made


def test_without_a_request_there_are_pseudonyms_and_no_pictures(opened: Content) -> None:
    named = named_failures(opened)
    kinds = {one.kind for _, one in named}
    assert {"mistaken", "missed", "confident"} <= kinds <= set(TITLES)
    for kind in kinds:
        made = drawn(opened, kind)
        text = made.caption + made.table.note + "".join("".join(row.cells) for row in made.table.rows)
        assert made.svg == ""
        assert not [one.case for _, one in named if one.case in text], "no id of a case stands in the page"
    assert [row.cells[0] for row in drawn(opened, "missed").table.rows][:2] == ["M1", "M2"]
    section = next(one for one in sections(opened) if one.key == "failures")
    assert "--thumbnails" in section.lead, "told once, above all of them"


def test_the_key_tells_the_cases(opened: Content) -> None:
    rows = list(csv.DictReader(io.StringIO(key(opened))))
    assert [(row["pseudonym"], row["case"]) for row in rows] == [(n, one.case) for n, one in named_failures(opened)]
    assert len({row["pseudonym"] for row in rows}) == len(rows)


def test_pictures_on_request_have_words(opened: Content) -> None:
    pair = named_failures(opened)[0]
    uri = jpeg_uri(np.full((32, 32, 3), 200, dtype=np.uint8))
    made = drawn(replace(opened, pictures={pair[1].case: uri}), pair[1].kind)
    assert made.svg.count("<image") == 1 and uri in made.svg and "<title>" in made.svg
    assert pair[0] in made.alt and "labelled" in made.alt and "--thumbnails" not in made.caption
    assert pair[1].case not in made.svg


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_a_small_jpeg_without_metadata(channels: int) -> None:
    image = np.zeros((300, 300, channels), dtype=np.uint8)
    image[:, 150:] = 255
    found = Image.open(io.BytesIO(base64.b64decode(jpeg_uri(image, side=90).partition(",")[2])))
    assert (found.format, found.size) == ("JPEG", (90, 90)) and not found.getexif()
    grey = np.asarray(found.convert("L"), dtype=int)
    assert grey[:, :40].max() < 20 and grey[:, 50:].min() > 235


def test_sixteen_bit_values_are_scaled() -> None:
    image = np.full((40, 40, 1), 1000, dtype=np.uint16)
    image[:, 20:] = 5000
    found = Image.open(io.BytesIO(base64.b64decode(jpeg_uri(image).partition(",")[2])))
    assert np.asarray(found)[20, 2] < 10 and np.asarray(found)[20, 37] > 245


def with_subgroups(content: Content) -> Content:
    arm = content.chosen
    assert arm is not None
    predictions = arm.predictions[0]
    sex = np.where(np.arange(len(predictions.table)) % 8 == 0, "female", "male")
    rows = figures_of(replace(predictions, table=predictions.table.assign(sex=sex)), ["sex"])
    rows = [replace(row, seed=arm.shown_seed) for row in rows]
    changed = replace(arm, estimates=(*arm.estimates, *rows))
    return replace(content, arms=tuple(changed if one.name == arm.name else one for one in content.arms))


def test_subgroups_are_drawn_and_small_ones_hidden(opened: Content) -> None:
    plain = subgroups(opened)
    assert isinstance(plain, Absent) and "decision.subgroups" in plain.why
    content = with_subgroups(opened)
    made, apart = subgroups(content), subgroup_differences(content)
    assert isinstance(made, Figure) and isinstance(apart, Figure)
    assert "sex female" in made.svg and "sex male" in made.svg
    hidden = [row for row in made.table.rows if "hidden" in row.cells]
    assert hidden and all(cell in ("fewer than 10", "hidden") for row in hidden for cell in row.cells[2:8])
    assert "Exploratory" in apart.caption and apart.table.rows
    keys = {one.key for one in limitations(content)}
    assert "subgroups" not in keys and "subgroups" in {one.key for one in limitations(opened)}


def test_harm_has_an_interval(opened: Content) -> None:
    made = mistaken(opened)
    assert isinstance(made, Figure)
    head, first = made.table.head, made.table.rows[0].cells
    assert head[-1] == "Cost a case" and "(" in first[-1]
    free = mistaken(replace(opened, missed={}, matrix={}))
    assert isinstance(free, Figure) and free.table.rows[0].cells[-1] == "–"
