from __future__ import annotations

from tiny_study import bench as bench  # noqa: PLC0414
