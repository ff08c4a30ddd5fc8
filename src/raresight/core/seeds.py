"""Random streams named by what they are for, so that no draw depends on what else ran.

Every random decision takes its own generator, seeded from a path of names such as `(study seed, run seed, "mixup",
step 412)`. Nothing keeps generator state: step 412 draws the same numbers after a resume, in another order of arms,
or on another worker.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def derive(*names: object) -> int:
    """A 63-bit seed from a path of names; any two different paths give unrelated seeds."""
    path = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "big") >> 1


def numpy_rng(*names: object) -> np.random.Generator:
    import numpy as np

    return np.random.default_rng(derive(*names))


def torch_rng(*names: object) -> torch.Generator:
    """A CPU generator (draws are made on the CPU and moved, so that every device sees the same numbers)."""
    import torch

    return torch.Generator().manual_seed(derive(*names))
