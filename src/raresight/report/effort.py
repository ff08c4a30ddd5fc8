"""What each arm cost to train, and how fast it went: time and machine, as far as they were written down."""

from __future__ import annotations

from raresight.core.speed import percent, speed
from raresight.report.content import ArmResult, Content
from raresight.report.tables import Table, table
from raresight.report.words import DASH

NOT_RECORDED = "not recorded"
NOT_MEASURED = "not measured"


def effort(content: Content) -> Table | None:
    """A row an arm: training time of the first seed, steps, machine, peak memory; None where nothing was recorded."""
    trained = [arm for arm in content.arms if not arm.outside and (arm.events or arm.env)]
    if not trained:
        return None
    base = content.reference
    of_base = seconds(base) if base is not None else None
    rows = []
    for arm in trained:
        took = seconds(arm)
        times = DASH if not took or not of_base else f"{took / of_base:.1f} ×"
        machine = ", ".join(str(arm.env[key]) for key in ("device", "dtype") if key in arm.env) or NOT_RECORDED
        memory = next((arm.env[key] for key in ("peak_gb", "gb") if arm.env.get(key) is not None), None)
        steps = arm.facts.get("steps")
        rows.append((
            arm.name,
            NOT_RECORDED if took is None else duration(took),
            times,
            NOT_RECORDED if steps is None else f"{int(steps) + int(arm.facts.get('head_steps') or 0):,}",
            machine,
            NOT_RECORDED if memory is None else f"{float(memory):.1f} GB",
        ))  # fmt: skip
    head = ("Arm", "Training time", "Against the baseline", "Steps", "Machine", "Peak memory")
    note = (
        "First seed. Time between writing one line of the history and the next: another job on the machine counts. "
        "Memory is the whole process's, arms trained before included."
    )
    return table(head, rows, (1, 2, 3, 5), note)


def pace(content: Content) -> Table | None:
    """A row an arm: how well training used the machine, over all seeds; None where no history tells."""
    rows = []
    for arm in content.arms:
        seen = speed(event for events in arm.events for event in events)
        if seen is not None:
            share = NOT_MEASURED if seen.share_of_peak is None else percent(seen.share_of_peak)
            rows.append((arm.name, f"{seen.images_per_s:,.0f}", share, percent(seen.input_share)))
    if not rows:
        return None
    head = ("Arm", "Images a second", "Share of the machine's peak", "Waiting for input")
    note = (
        "For whoever looks after the machine; nothing about patients follows from it. The peak is the fastest matrix "
        "product measured there before training. Waiting for input: reading images and changing them, not the network."
    )
    return table(head, rows, (1, 2, 3), note)


def seconds(arm: ArmResult) -> float | None:
    """What the arm's first history adds up to; None where no line tells."""
    told = [float(event["seconds"]) for event in (arm.events[0] if arm.events else ()) if event.get("seconds")]
    return sum(told) if told else None


def duration(took: float) -> str:
    """`45 s`, `12 min`, `3.4 h`."""
    return f"{took:.0f} s" if took < 90 else f"{took / 60:.0f} min" if took < 5400 else f"{took / 3600:.1f} h"
