"""CutMix: the rectangle pixel by pixel, the label by the pixels that were pasted, and who may use it."""

from __future__ import annotations

import doctest
import math

import pytest
import torch

from raresight.core.errors import ConfigError
from raresight.core.presets import DERMOSCOPY, PRESETS
from raresight.strategies.inputs import cutmix
from raresight.strategies.inputs.cutmix import CutMix, rectangles
from raresight.strategies.inputs.mixing import beta
from raresight.strategies.strategy import Facts


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def facts(preset: str, mask: torch.Tensor | None = None) -> Facts:
    return Facts("exclusive", ("a", "b"), torch.eye(2), torch.ones(2, 2) if mask is None else mask, preset=preset)


def test_equals_the_definition_in_a_loop() -> None:
    n, height, width = 12, 10, 14
    x, y = torch.rand(n, 3, height, width, generator=rng(1)), torch.eye(n)
    out, soft = CutMix(alpha=1.0).mix_inputs(x, y, rng(7))
    replay = rng(7)
    partner, lam = torch.randperm(n, generator=replay), beta(n, 1.0, 1.0, replay)
    centre_y = torch.randint(0, height, (n,), generator=replay)
    centre_x = torch.randint(0, width, (n,), generator=replay)
    pasted_somewhere = 0
    for i in range(n):
        j = int(partner[i])
        half_y = int(height * math.sqrt(1 - float(lam[i]))) // 2
        half_x = int(width * math.sqrt(1 - float(lam[i]))) // 2
        expected, pasted = x[i].clone(), 0
        for row in range(height):
            for column in range(width):
                in_rows = centre_y[i] - half_y <= row < centre_y[i] + half_y
                if in_rows and centre_x[i] - half_x <= column < centre_x[i] + half_x:
                    expected[:, row, column] = x[j, :, row, column]
                    pasted += 1
        assert torch.equal(out[i], expected)
        share = pasted / (height * width)
        torch.testing.assert_close(soft[i], (1 - share) * y[i] + share * y[j])
        pasted_somewhere += 0 < share < 1
    assert pasted_somewhere >= 6


def test_the_label_tells_the_pixels() -> None:
    """Image i is white in channel i alone: the mean of each channel is the label, whatever was cut off at the edge."""
    x = torch.eye(6).view(6, 6, 1, 1).expand(6, 6, 20, 16).contiguous()
    out, soft = CutMix(alpha=1.0).mix_inputs(x, torch.eye(6), rng(2))
    torch.testing.assert_close(out.mean((2, 3)), soft)
    assert set(out.unique().tolist()) == {0.0, 1.0}  # pasted, not blended


def test_area_of_rectangles_that_are_not_cut_off() -> None:
    inside = rectangles(torch.tensor([1.0, 0.75, 0.0], dtype=torch.float64), 40, 80, rng(0))
    assert inside[0].sum() == 0
    assert inside.shape == (3, 40, 80)
    for seed in range(50):  # a quarter of the area: sides of half the picture, cut off at most to a quarter of that
        area = rectangles(torch.tensor([0.75], dtype=torch.float64), 40, 80, rng(seed)).sum().item()
        assert 10 * 20 <= area <= 20 * 40
    assert any(
        rectangles(torch.tensor([0.75], dtype=torch.float64), 40, 80, rng(seed)).sum() == 20 * 40 for seed in range(50)
    )


def test_the_mean_label_stays() -> None:
    y = torch.eye(2)[[0] * 36 + [1] * 4]
    x = torch.rand(40, 1, 16, 16, generator=rng(1))
    mean = torch.stack([CutMix().mix_inputs(x, y, rng(seed))[1].mean(0) for seed in range(200)]).mean(0)
    assert mean[1].item() == pytest.approx(0.1, abs=0.005)
    assert CutMix().log_prior_shift() == 0
    assert not CutMix().compensates()


@pytest.mark.parametrize("preset", [name for name, bounds in PRESETS.items() if not bounds.cutmix])
def test_refused_with_the_presets_reason_where_it_is_not_allowed(preset: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        CutMix().fit(facts(preset))
    (problem,) = refusal.value.problems
    assert problem.code == "RS-C35"
    assert f"'{preset}' does not allow cutmix" in problem.found
    assert problem.why == PRESETS[preset].reasons.get("cutmix", PRESETS[preset].reasons.get("all"))
    assert problem.remedy.endswith("histology")


def test_allowed_by_histology_by_name_and_where_it_does_nothing() -> None:
    CutMix().fit(facts("histology"))
    CutMix(preset="histology").fit(facts("dermoscopy"))  # a preset named in the arm stands over the study's
    CutMix(alpha=0).fit(facts("dermoscopy"))
    assert "border" in DERMOSCOPY.reasons["cutmix"]
    with pytest.raises(ConfigError, match="did you mean 'histology'"):
        CutMix(preset="histologi")


def test_neutral_and_single_batches_stay_bit_for_bit() -> None:
    x, y = torch.rand(4, 1, 8, 8, generator=rng(1)), torch.eye(4)
    for method, n in ((CutMix(**CutMix.neutral()), 4), (CutMix(), 1)):
        out, soft = method.mix_inputs(x[:n], y[:n], rng())
        assert torch.equal(out, x[:n])
        assert torch.equal(soft, y[:n])


def test_a_batch_of_two_is_mixed() -> None:
    x, y = torch.rand(2, 1, 16, 16, generator=rng(1)), torch.eye(2)
    assert any(not torch.equal(CutMix().mix_inputs(x, y, rng(seed))[0], x) for seed in range(12))


def test_unknown_labels_and_wrong_settings_are_refused() -> None:
    mask = torch.ones(2, 2)
    mask[1, 0] = 0
    with pytest.raises(ConfigError, match="1 training labels are unknown"):
        CutMix().fit(facts("histology", mask))
    CutMix(alpha=0).fit(facts("histology", mask))
    with pytest.raises(ConfigError, match="alpha is -1"):
        CutMix(alpha=-1)


def test_the_example_runs() -> None:
    result = doctest.testmod(cutmix)
    assert result.attempted > 0
    assert result.failed == 0
