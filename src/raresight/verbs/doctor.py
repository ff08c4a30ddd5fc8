"""`raresight doctor`: what this machine offers, and what would stop a study."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PACKAGES = ("numpy", "scipy", "pandas", "pyarrow", "pydantic", "matplotlib", "pillow", "torch", "torchvision", "timm")
SECONDS_A_PEAK = 0.2


def doctor(path: Path = Path()) -> dict[str, Any]:
    """Versions, devices, determinism, disk and shared memory, each with `ok` and a remedy where it is not."""
    from raresight import __version__

    rows = [_row("python", platform.python_version(), True, "")]
    rows.append(_row("raresight", __version__, True, ""))
    for name in PACKAGES:
        version = _version(name)
        training = name in ("torch", "torchvision", "timm")
        remedy = "" if version else ("pip install 'raresight[train]' to train" if training else f"pip install {name}")
        rows.append(_row(name, version or "not installed", version is not None, remedy))
    rows.append(_row("cores", str(os.cpu_count()), True, ""))
    free = shutil.disk_usage(path.resolve() if path.exists() else Path.cwd()).free / 1e9
    rows.append(
        _row("free disk", f"{free:.0f} GB", free > 5, "" if free > 5 else "free some space: runs keep checkpoints")
    )
    shared = Path("/dev/shm")
    if shared.exists():
        size = shutil.disk_usage(shared).total / 1e9
        rows.append(_row("shared memory", f"{size:.1f} GB", True, ""))
    if util.find_spec("torch"):
        rows += _torch_rows()
    return {"checks": rows}


def _torch_rows() -> list[dict[str, Any]]:
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    device = torch.cuda.get_device_name(0) if cuda else "mps" if mps else "cpu only"
    rows = [_row("device", device, True, "")]

    def once() -> torch.Tensor:
        rng = torch.Generator().manual_seed(0)
        layer = torch.nn.Conv2d(3, 8, 3)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=rng))
            layer.bias.zero_()  # type: ignore[union-attr]
            return layer(torch.randn(4, 3, 16, 16, generator=rng))

    same = bool(torch.equal(once(), once()))
    rows.append(
        _row("determinism on the CPU", "bit for bit" if same else "differs", same, "" if same else "set train.threads")
    )
    rows += _peak_rows(torch.device("cpu"))
    if cuda:
        rows += _peak_rows(torch.device("cuda"))
        rows.append(_row("determinism on the GPU", "not promised: atomics in backward passes", True, ""))
    return rows


def _peak_rows(device: torch.device) -> list[dict[str, Any]]:
    """The fastest matrix product in each precision: what a run's share of the peak refers to."""
    import torch

    from raresight.train.peak import matmul_peak
    from raresight.train.runtime import PRECISIONS, Runtime

    threads = torch.get_num_threads()
    peaks = {dtype: matmul_peak(Runtime(device, dtype, False, threads), SECONDS_A_PEAK) for dtype in PRECISIONS}
    where = f"{threads} thread{'s' if threads > 1 else ''}" if device.type == "cpu" else device.type
    found = ", ".join(f"{dtype} {peak:,.0f} GFLOP/s" for dtype, peak in peaks.items())
    return [_row(f"matmul peak, {where}", found, True, "")]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _row(name: str, found: str, ok: bool, remedy: str) -> dict[str, Any]:
    return {"name": name, "found": found, "ok": ok, "remedy": remedy}
