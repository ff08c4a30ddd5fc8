"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real images; tests that need it say why they skip where it is absent."""
    root = Path(os.environ.get("RARESIGHT_DATA", ROOT.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"real data not found at {root}; set RARESIGHT_DATA to run this test")
    return root
