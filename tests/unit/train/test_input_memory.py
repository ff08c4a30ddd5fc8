"""What computing asks of the system: memory that was freed serves the next batch, and goes back in the end."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

from raresight.train.memory import freed_memory_kept
from raresight.train.runtime import Runtime

PROGRAM = """
import resource
from pathlib import Path
import torch
from raresight.train.runtime import Runtime

def batch():  # 40 MB: more than the C library takes from its heap by itself
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

cpu = Runtime(torch.device("cpu"))
torch.ones(1)
with cpu.settled():
    for _ in range(10):  # a block is aligned with a few bytes that stay behind: two or three blocks until one fits
        batch()
    with cpu.settled():
        batch()
    print(batch())
    held = resident()
print(held - resident())
before = resident()
torch.ones(60_000_000)  # larger than any hole that the batches left in the heap
print(resident() - before)
"""
GNU = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of GNU's C library")
UNTUNED = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}


@GNU
def test_a_batch_takes_the_memory_that_the_last_one_gave_back_and_the_system_has_it_in_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=UNTUNED)
    pages, given_back, kept_after = (float(line) for line in done.stdout.split())
    assert pages < 100  # anew it would be 9,766
    assert given_back > 35
    assert kept_after < 5  # of 240


@GNU
@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_TRIM_THRESHOLD_", "1"), ("MALLOC_MMAP_THRESHOLD_", "1"), ("GLIBC_TUNABLES", "glibc.malloc.check=0")],
)
def test_who_tunes_the_allocator_keeps_what_was_set(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for tuned in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(tuned, raising=False)
    with freed_memory_kept() as kept:
        assert kept
    monkeypatch.setenv(name, value)
    with freed_memory_kept() as kept:
        assert not kept


def test_elsewhere_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with freed_memory_kept() as kept, Runtime(torch.device("cpu")).settled():
        assert not kept
