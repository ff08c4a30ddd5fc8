from __future__ import annotations

import numpy as np

from raresight.data.thumbnails import thumbnails


def test_block_means_by_hand() -> None:
    pixels = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    pixels[1, :2, :2] = [[[10, 20, 30], [10, 20, 30]], [[50, 60, 70], [50, 60, 70]]]  # mean of the block: 40
    small = thumbnails(pixels, np.array([1, 0]))
    assert small.shape == (2, 16, 16)
    assert small[0, 0, 0] == 40 and small[0].sum() == 40 and small[1].sum() == 0


def test_a_margin_is_cut_evenly() -> None:
    pixels = np.zeros((1, 18, 18, 1), dtype=np.uint8)
    pixels[0, 1, 1] = 9
    assert thumbnails(pixels, np.array([0]))[0, 0, 0] == 9
