"""Random streams depend on their names and on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from raresight.core.seeds import derive, numpy_rng


def test_a_seed_is_the_hash_of_its_path() -> None:
    digest = hashlib.blake2b(b"0\x1fmixup\x1f412", digest_size=8).digest()
    assert derive(0, "mixup", 412) == int.from_bytes(digest, "big") // 2
    assert 0 <= derive("x") < 2**63  # what torch.Generator takes


def test_paths_are_told_apart() -> None:
    paths = [(1, 23), (12, 3), ("1", "2", "3"), (123,), (0, "a"), (0, "b"), (1, "a"), ("a", 0)]
    assert len({derive(*path) for path in paths}) == len(paths)


def test_a_stream_repeats_whatever_ran_before() -> None:
    first = numpy_rng("split", 0).random(5)
    numpy_rng("split", 1).random(100)
    np.random.default_rng().random(3)
    assert np.array_equal(first, numpy_rng("split", 0).random(5))
    assert not np.array_equal(first, numpy_rng("split", 1).random(5))


def test_a_torch_stream_repeats() -> None:
    torch = pytest.importorskip("torch")
    from raresight.core.seeds import torch_rng

    draws = [torch.rand(4, generator=torch_rng(0, name)) for name in ("a", "a", "b")]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
