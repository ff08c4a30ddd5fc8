"""Arms are written into `study.yaml` and nothing else moves: comments, order and line ends stay."""

from __future__ import annotations

import pytest
import yaml

from raresight.advise.writing import with_arms
from raresight.core.errors import ConfigError

ARMS = {
    "baseline": {"strategies": [], "why": ["plain: all are compared with it"]},
    "no": {"strategies": ["heavy_augment", {"focal": {"gamma": 2}}], "why": ["a hybrid"]},
}
PLAIN = {name: arm["strategies"] for name, arm in ARMS.items()}
HEAD = "# a study\ntask: {kind: exclusive, classes: [a, b]}   # two\n\n"
TAIL = "\n# Yours to say:\n# costs: {missed: {a: 20}}\nseeds: [0, 1]   # two\n"


@pytest.mark.parametrize(
    "block",
    [
        "arms:   # ways\n  baseline: []   # plain\n  # mine\n  focal:\n  - focal: {gamma: 1}\n",
        "arms: {baseline: []}\n",
        "arms: {\n  baseline: [],\n  focal: [focal]}\n",
        "arms: auto   # ways\n",
        "arms: {}\n",
        "arms:\n",
    ],
)
@pytest.mark.parametrize("tail", [TAIL, "", "\n# Yours to say:\n# accept: {}\n"])
def test_only_the_block_of_the_arms_changes(block: str, tail: str) -> None:
    written = with_arms(HEAD + block + tail, ARMS)
    assert written.startswith(HEAD + "arms:") and written.endswith(tail)
    middle = written.removeprefix(HEAD).removesuffix(tail)
    assert yaml.safe_load(middle) == {"arms": PLAIN} and "# a hybrid\n" in middle and "mine" not in middle
    assert ("# ways\n" in middle) == ("# ways" in block)
    assert with_arms(written, ARMS) == written, "twice is once"


def test_without_arms_they_come_last_and_foreign_line_ends_stay() -> None:
    assert with_arms(HEAD + "seeds: [0]", ARMS).startswith(HEAD + "seeds: [0]\narms:")
    windows = (HEAD + "arms: {}\n" + TAIL).replace("\n", "\r\n")
    written = with_arms(windows, ARMS)
    assert written.endswith(TAIL.replace("\n", "\r\n")) and written.count("\n") == written.count("\r\n")
    assert yaml.safe_load(written)["arms"] == PLAIN


@pytest.mark.parametrize("text", ["{arms: {}, seeds: [0]}\n", "arms: {a: &x [focal]}\nmine: *x\n"])
def test_what_cannot_be_replaced_alone_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="without touching another entry"):
        with_arms(text, ARMS)
