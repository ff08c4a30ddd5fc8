"""Warp, blur and light of one image after the other, compiled: each is finished while the processor's cache holds it.

The same changes as `apply_warp`, `apply_blur` and `apply_light` make, to rounding. An image is `(H, W, C)` with C 1 or
3 and both sides at least 2, so that a pixel has a neighbour.

Compiled code is kept beside this file, or in the user's cache where the installation is read-only; where neither can be
written, it is compiled anew in each process. `NUMBA_CACHE_DIR` names another place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from raresight.core.inner_loops import compiled

# Sums may be taken in another order and products fused with them, which lets the loops become vector instructions.
_LOOSE = {"contract", "reassoc", "nsz", "arcp", "nnan", "ninf"}
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)
_F: Any = np.float32
_I: Any = np.int32
_U: Any = np.uint32


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return compiled(function, nogil=True, fastmath=_LOOSE, error_model="numpy")


def _inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    return numba.njit(inline="always", fastmath=_LOOSE)(function)


@_compiled
def change(
    x: np.ndarray,
    out: np.ndarray,
    warped: np.ndarray,
    theta: np.ndarray,
    sigma: np.ndarray,
    lit: np.ndarray,
    matrix: np.ndarray,
    contrast: np.ndarray,
    brightness: np.ndarray,
    gamma: np.ndarray,
    noise: np.ndarray,
    which: np.ndarray,
    grain: np.ndarray,
) -> None:
    """Write to `out` what becomes of `x`, both `(B, H, W, C)` float32.

    `warped` and `lit` `(B,)` bool say which images change so, and `sigma` `(B,)` in their own pixels where it is not 0;
    all others are copied. `theta` `(B, 2, 3)` float64 as `warp.matrix` gives it; `matrix` `(B, 3, 3)` float32 as
    `photometric.colour_matrix`; contrast, brightness, gamma and noise `(B,)` float32; `grain` `(N, H * W * C)`
    float32 for images with noise alone: image i's is row `which[i]` (`(B,)` int64).
    """
    height, width, channels = x.shape[1:]
    left = np.empty(width, np.uint32)
    across = np.empty(width, np.float32)
    down = np.empty(width, np.float32)
    for i in range(len(x)):
        source, target = x[i].reshape(-1), out[i].reshape(-1)
        if warped[i]:
            _warp(source, target, theta[i], height, width, channels, left, across, down)
        else:
            for j in range(len(source)):
                target[j] = source[j]
        if sigma[i] != 0:
            _blur(target, height, width, channels, sigma[i])
        if lit[i]:
            offset = brightness[i]
            if contrast[i] != 1:
                offset += (_F(1) - contrast[i]) * _mean_luma(target, width * channels, channels)
            _light(target, width, channels, matrix[i], contrast[i], offset, gamma[i])
            if noise[i] != 0:
                _roughen(target, grain[which[i]], noise[i])


@_compiled
def _warp(
    source: np.ndarray,
    target: np.ndarray,
    theta: np.ndarray,
    height: int,
    width: int,
    channels: int,
    left: np.ndarray,
    across: np.ndarray,
    down: np.ndarray,
) -> None:
    # theta speaks of positions in [-1, 1]; here they count pixels, the first one's outer edge being 0
    xx, xy = theta[0, 0], theta[0, 1] * width / height
    yx, yy = theta[1, 0] * height / width, theta[1, 1]
    x0 = 0.5 * (width * (1 + theta[0, 2] - theta[0, 0] - theta[0, 1]) + xx + xy)
    y0 = 0.5 * (height * (1 + theta[1, 2] - theta[1, 0] - theta[1, 1]) + yx + yy)
    line, one = _U(width * channels), _U(channels)
    for row in range(height):
        for j in range(width):
            left[j] = 0
        _look(x0 + xy * row, xx, width, one, left, across)
        _look(y0 + yy * row, yx, height, line, left, down)
        start = _U(row) * line
        if channels == 3:
            for j in range(width):
                at, to = left[j], start + _U(3) * _U(j)
                for c in range(3):
                    k = _U(c)
                    above = _between(source[at + k], source[at + _U(3) + k], across[j])
                    below = _between(source[at + line + k], source[at + line + _U(3) + k], across[j])
                    target[to + k] = _within(_between(above, below, down[j]))
        else:
            for j in range(width):
                at = left[j]
                above = _between(source[at], source[at + _U(1)], across[j])
                below = _between(source[at + line], source[at + line + _U(1)], across[j])
                target[start + _U(j)] = _within(_between(above, below, down[j]))


@_compiled
def _look(first: float, step: float, side: int, stride: int, at: np.ndarray, share: np.ndarray) -> None:
    """Add the offset of the pixel before each position `first + step * j`, and tell the share of the one after it.

    Positions beyond an edge are those of the mirror image there: a wave of period 2 * side.
    """
    for j in range(len(at)):
        place = abs(first + step * j)
        place -= 2.0 * side * np.floor(place / (2.0 * side))
        place = side - abs(place - side) - 0.5
        place = min(max(place, 0.0), side - 1.0)
        before = max(min(_I(place), _I(side - 2)), _I(0))  # whatever a position is, the offset stays within the image
        share[j] = _F(place - before)
        at[j] += _U(before) * stride


@_compiled
def _blur(image: np.ndarray, height: int, width: int, channels: int, sigma: float) -> None:
    """Along rows, then along columns; borders are reflected about the middle of the outermost pixels."""
    reach = min(max(1, _I(math.ceil(_F(3) * sigma))), min(height, width) - 1)
    weight = np.empty(2 * reach + 1, np.float32)
    total = 0.0
    for k in range(2 * reach + 1):
        value = math.exp(-0.5 * ((k - reach) / sigma) ** 2)
        weight[k] = value
        total += value
    for k in range(2 * reach + 1):
        weight[k] /= total
    line = width * channels
    padded = np.empty(line + 2 * reach * channels, np.float32)
    blurred = np.zeros(len(image), np.float32)
    for start in range(0, len(image), line):
        row, to = image[start : start + line], blurred[start : start + line]
        for j in range(line):
            padded[reach * channels + j] = row[j]
        for j in range(reach):
            for c in range(channels):
                padded[(reach - 1 - j) * channels + c] = row[(j + 1) * channels + c]
                padded[(reach + width + j) * channels + c] = row[(width - 2 - j) * channels + c]
        for k in range(2 * reach + 1):
            moved = padded[k * channels : k * channels + line]
            for j in range(line):
                to[j] += weight[k] * moved[j]
    for i in range(height):
        to = image[i * line : i * line + line]
        for j in range(line):
            to[j] = 0
        for k in range(2 * reach + 1):
            other = abs(i + k - reach)
            other = height - 1 - abs(height - 1 - other)
            row = blurred[other * line : other * line + line]
            for j in range(line):
                to[j] += weight[k] * row[j]


@_compiled
def _mean_luma(image: np.ndarray, line: int, channels: int) -> float:
    """Mean of 0.299 R + 0.587 G + 0.114 B, or of a grey image."""
    columns = np.zeros(line, np.float32)
    for start in range(0, len(image), line):
        row = image[start : start + line]  # counting from 0, so that no index can be negative
        for j in range(line):
            columns[j] += row[j]
    total = 0.0
    for j in range(line):
        total += columns[j] * (_LUMA[j % 3] if channels == 3 else _F(1))
    return _F(total * channels / len(image))


@_compiled
def _light(
    image: np.ndarray, width: int, channels: int, matrix: np.ndarray, contrast: float, offset: float, gamma: float
) -> None:
    line = width * channels
    for start in range(0, len(image), line):
        row = image[start : start + line]
        if channels == 3:
            for j in range(width):
                red, green, blue = row[3 * j], row[3 * j + 1], row[3 * j + 2]
                for c in range(3):
                    row[3 * j + c] = _within(offset + matrix[c, 0] * red + matrix[c, 1] * green + matrix[c, 2] * blue)
        else:
            for j in range(line):
                row[j] = _within(offset + contrast * row[j])
        if gamma != 1:
            for j in range(line):
                row[j] = _power(row[j], gamma)


@_compiled
def _roughen(image: np.ndarray, grain: np.ndarray, noise: float) -> None:
    for j in range(len(image)):
        image[j] = _within(image[j] + noise * grain[j])


@_inlined
def _between(a: float, b: float, share: float) -> float:
    return a + share * (b - a)


@_inlined
def _within(value: float) -> float:
    return min(max(value, _F(0)), _F(1))


@_inlined
def _power(value: float, exponent: float) -> float:
    """value^exponent for values in [0, 1], to 1e-7; the library's is no vector instruction and takes ten times as long.

    2^(exponent * log2 value), the logarithm from the series of artanh about 1, the power from that of exp. 0 counts as
    the smallest normal number, so a gamma of 0.5 makes 1e-19 of it.
    """
    positive = _F(max(value, _F(1.1754944e-38)))
    bits = positive.view(_I)
    whole = _I(_I(bits - _I(0x3F3504F3)) >> _I(23))  # so that what is left lies within sqrt(1/2) and sqrt(2)
    left = _I(bits - _I(whole << _I(23))).view(_F)
    t = (left - _F(1)) / (left + _F(1))
    s = t * t
    series = _F(0.577078016) + s * (_F(0.412198583) + s * _F(0.320598898))
    y = exponent * (_F(whole) + t * (_F(2.885390082) + s * (_F(0.961796694) + s * series)))
    y = max(y, _F(-126))
    whole_y = np.floor(y + _F(0.5))
    f = y - whole_y
    series = _F(0.00961812911) + f * (_F(0.00133335581) + f * (_F(0.000154035304) + f * _F(1.52527338e-05)))
    series = _F(1) + f * (_F(0.693147181) + f * (_F(0.240226507) + f * (_F(0.0555041087) + f * series)))
    return series * _I((_I(whole_y) + _I(127)) << _I(23)).view(_F)
