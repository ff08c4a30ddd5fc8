"""Two studies on disk, made once: one whose test part was opened, one that stopped before and lacks a class."""

from __future__ import annotations

import fake_study
import pytest

from raresight.report.content import Content
from raresight.report.gather import from_study
from raresight.report.page import render


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Content:
    folder = fake_study.make(tmp_path_factory.mktemp("studies") / "skin <b>&amp; lesions", seeds=(0, 1))
    return from_study(folder)


@pytest.fixture(scope="session")
def opened_page(opened: Content) -> str:
    return render(opened)


@pytest.fixture(scope="session")
def unopened(tmp_path_factory: pytest.TempPathFactory) -> Content:
    path = tmp_path_factory.mktemp("studies") / "quick"
    return from_study(fake_study.make(path, arms=("baseline", "hybrid"), opened=False, absent="akiec", quick=True))


@pytest.fixture(scope="session")
def unopened_page(unopened: Content) -> str:
    return render(unopened)
