"""What gathering batches asks of the system: memory that was freed serves the next batch."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from raresight.train.batches import keep_freed_memory

PROGRAM = """
import resource
import numpy as np
from raresight.train.batches import keep_freed_memory

assert keep_freed_memory()
for _ in range(3):  # 40 MB: more than the C library takes from its heap by itself
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(5_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of GNU's C library")
def test_a_batch_takes_the_memory_that_the_last_one_gave_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100  # pages; anew it would be 9,766


def test_elsewhere_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
