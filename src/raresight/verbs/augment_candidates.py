"""The transforms that the faithfulness audit looks at: a preset's own, each at its bound, and what it switches off."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raresight.core.presets import Preset
from raresight.core.seeds import torch_rng
from raresight.data.elastic import elastic
from raresight.data.faithfulness import Candidate, Change
from raresight.strategies.inputs.blur import apply_blur
from raresight.strategies.inputs.photometric import Light, apply_light, draw_grain, draw_light
from raresight.strategies.inputs.warp import Warp, apply_warp, draw_warp

FURTHER = {"shear_deg": 15.0, "zoom": 0.5, "hue": 0.10, "blur_px": 3.0}
"""What other toolkits do by default or offer, looked at beside the preset's own bound where that is smaller."""
STEEPEST_DEG = 45.0  # a rotation beyond it is a quarter turn and a smaller rotation

_ONE, _ZERO = torch.ones(1), torch.zeros(1)
_STILL = Warp(_ONE, _ONE, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ONE)
_SAME = Light(_ZERO, _ONE, _ONE, _ZERO, _ONE, _ZERO)


def candidates(preset: Preset, *, grey: bool = False) -> list[Candidate]:
    """Every transform of the preset at its bound, one draw of all together, then what the preset switches off."""
    own = [_at(name, getattr(preset, name), preset, allowed=True) for name in _WAYS if getattr(preset, name)]
    drawn = Candidate(
        name="all together",
        bound="a draw of augment",
        allowed=True,
        reason="what a training picture meets: every transform with probability 1/2, evenly within its bound",
        ways=(partial(_draw, preset, 0), partial(_draw, preset, 1)),
    )
    further = [
        _at(name, value, preset, allowed=False) for name, value in FURTHER.items() if getattr(preset, name) < value
    ]
    bent = Candidate(
        name="elastic",
        bound="3% of the side",
        allowed=False,
        reason="in no preset: it bends outlines, and outlines are criteria",
        ways=(elastic,),
    )
    found = [*own, *([drawn] if own else []), *further, bent]
    return [c for c in found if not (grey and c.name.split()[0] in ("hue", "saturation"))]


def control() -> Candidate:
    """Resampling and nothing else: a shift by half a pixel, where bilinear interpolation blurs most."""
    return Candidate(
        name="resampling alone",
        bound="half a pixel",
        allowed=True,
        reason="what the interpolation costs",
        ways=(partial(_half_a_pixel, 1), partial(_half_a_pixel, -1)),
    )


def _at(name: str, bound: float, preset: Preset, *, allowed: bool) -> Candidate:
    ways, words = _WAYS[name](float(bound))
    return Candidate(
        name=_NAMES.get(name, name),
        bound=words,
        allowed=allowed,
        reason=preset.reasons.get(name, "off: no transform is known to be safe for this modality"),
        ways=ways,
    )


# from arrays to the operations that training uses, and back


def _warp(warp: Warp, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    both = apply_warp(_tensor(np.concatenate([image, mask[..., None]], axis=2)), warp)[0].permute(1, 2, 0).numpy()
    return both[..., :-1], np.ascontiguousarray(both[..., -1])


def _light(light: Light, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = _tensor(image)
    return _array(apply_light(x, light, draw_grain(x, light, torch_rng("audit grain", *x.shape)))), mask


def _blurred(sigma: float, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _array(apply_blur(_tensor(image), torch.tensor([sigma]))), mask


def _half_a_pixel(sign: int, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height, width = mask.shape
    shift = replace(_STILL, shift_x=_ONE * sign / (2 * width), shift_y=_ONE * sign / (2 * height))
    return _warp(shift, image, mask)


def _draw(preset: Preset, number: int, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One draw as `augment` makes it; the same for the same picture."""
    rng = torch_rng("audit draw", number, *mask.shape, round(float(mask.sum()), 3))
    warp = draw_warp(1, preset, strength=1.0, share=0.5, rng=rng)
    light = draw_light(1, preset, strength=1.0, share=0.5, rng=rng)
    return _light(light, *_warp(warp, image, mask))


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)).permute(2, 0, 1).unsqueeze(0)


def _array(x: Tensor) -> np.ndarray:
    return x[0].permute(1, 2, 0).numpy()


def _either(field: str, of: Warp | Light, centre: float = 0.0) -> Callable[[float], tuple[Change, ...]]:
    apply = _warp if isinstance(of, Warp) else _light

    def ways(bound: float) -> tuple[Change, ...]:
        ends: list[Any] = [replace(of, **{field: _ONE * (centre + sign * bound)}) for sign in (1, -1)]  # type: ignore[arg-type]
        return tuple(partial(apply, end) for end in ends)

    return ways


def _rotations(bound: float) -> tuple[tuple[Change, ...], str]:
    angle = min(bound, STEEPEST_DEG)
    words = f"{bound:g} deg" if angle == bound else "any angle, measured at 45 deg"
    return _either("angle", _STILL)(math.radians(angle)), words


def _translations(bound: float) -> tuple[tuple[Change, ...], str]:
    ends = [replace(_STILL, shift_x=_ONE * sign * bound, shift_y=_ONE * sign * bound) for sign in (1, -1)]
    return tuple(partial(_warp, end) for end in ends), f"{bound:.0%} of the side, both ways"


_NAMES = {
    "flip_horizontal": "flip, horizontal",
    "flip_vertical": "flip, vertical",
    "quarter_turns": "quarter turn",
    "rotate_deg": "rotation",
    "translate": "translation",
    "shear_deg": "shear",
    "blur_px": "blur",
}

_WAYS: dict[str, Callable[[float], tuple[tuple[Change, ...], str]]] = {
    "flip_horizontal": lambda _: ((partial(_warp, replace(_STILL, mirror_x=-_ONE)),), "left for right"),
    "flip_vertical": lambda _: ((partial(_warp, replace(_STILL, mirror_y=-_ONE)),), "top for bottom"),
    "quarter_turns": lambda _: (tuple(partial(_warp, replace(_STILL, turns=_ONE * k)) for k in (1, 3)), "either way"),
    "rotate_deg": _rotations,
    "translate": _translations,
    "zoom": lambda b: (_either("zoom", _STILL, 1.0)(b), f"{b:.0%}"),
    "shear_deg": lambda b: (_either("shear", _STILL)(math.radians(b)), f"{b:g} deg"),
    "brightness": lambda b: (_either("brightness", _SAME)(b), f"{b:.0%} of the scale"),
    "contrast": lambda b: (_either("contrast", _SAME, 1.0)(b), f"{b:.0%}"),
    "saturation": lambda b: (_either("saturation", _SAME, 1.0)(b), f"{b:.0%}"),
    "hue": lambda b: (_either("hue", _SAME)(2 * math.pi * b), f"{360 * b:.3g} deg of the colour circle"),
    "gamma": lambda b: (_either("gamma", _SAME, 1.0)(b), f"{b:.0%}"),
    "noise": lambda b: ((partial(_light, replace(_SAME, noise=_ONE * b)),), f"SD {b:g}"),
    "blur_px": lambda b: ((partial(_blurred, b),), f"{b:g} px at 224"),
}
