"""What `init` says of what a source cannot tell."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.flows.conftest import Cli


def test_init_asks_for_a_preset_where_there_are_images_to_change(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "t.csv").write_text("image,label,patient_id\na.png,nv,1\nb.png,mel,2\n", encoding="utf-8")
    for name in "ab":
        Image.new("L", (32, 32), 90).save(tmp_path / f"{name}.png")
    for name, options, asks in (("with", (), True), ("without", ("--no-images",), False)):
        answer = cli("init", tmp_path / name, "--from", "csv", tmp_path / "t.csv", *options)
        assert answer.code == 0
        assert ("raresight list presets" in answer.out + answer.err) is asks
