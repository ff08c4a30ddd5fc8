"""An elastic warp: what other toolkits offer as augmentation and no preset here allows. The audit shows why."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from raresight.core.seeds import numpy_rng


def elastic(
    image: np.ndarray, mask: np.ndarray, *, strength: float = 0.03, smooth: float = 0.06
) -> tuple[np.ndarray, np.ndarray]:
    """Move every place by a smooth random field, `image` `(H, W, C)` and `mask` `(H, W)` alike.

    Each component of the field is white noise smoothed by a Gaussian of `smooth` sides and scaled to a standard
    deviation of `strength` sides, side = sqrt(H W). Bilinear, borders reflected. The field follows from the mask's
    shape and size alone: the same picture is always warped alike.

    Source: Simard et al. 2003, Best practices for convolutional neural networks, section 2.
    """
    side = np.sqrt(mask.size)
    rng = numpy_rng("elastic", *mask.shape, round(float(mask.sum()), 3))
    field = ndimage.gaussian_filter(rng.standard_normal((2, *mask.shape)), (0, smooth * side, smooth * side))
    field *= strength * side / field.std(axis=(1, 2), keepdims=True)
    places = np.indices(mask.shape) + field

    def moved(plane: np.ndarray) -> np.ndarray:
        return ndimage.map_coordinates(plane, places, order=1, mode="reflect")

    return np.stack([moved(plane) for plane in np.moveaxis(image, 2, 0)], axis=2), moved(mask)
