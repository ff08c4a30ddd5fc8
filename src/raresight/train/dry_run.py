"""What a run would cost, from two batches of it."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from raresight.core.arm import Arm
from raresight.core.config import StudyConfig
from raresight.core.run import RunFolder
from raresight.core.seeds import derive
from raresight.strategies.stack import Stack
from raresight.train.batches import Cases
from raresight.train.course import EVALUATIONS, Course, head_steps_of
from raresight.train.frozen import n_views
from raresight.train.loop import Stepper
from raresight.train.predict import facts_of, new_model, steps_of
from raresight.train.runtime import Runtime
from raresight.train.schedule import optimiser_for
from raresight.train.trouble import named_trouble

FORWARD_SHARE = 1 / 3  # a forward pass costs about a third of a training step


def dry_run(
    arm: Arm, stack: Stack, config: StudyConfig, train: Cases, runtime: Runtime, *, study_seed: int, n_val: int = 0
) -> dict[str, Any]:
    """Train two batches from random weights, write nothing, and answer with what one run of the arm would take.

    `seconds_per_step` (the second batch; the first one warms up), `steps`, `hours` (with the passes over `n_val`
    validation cases; head-phase steps count as full ones, so this errs on the dear side), `gb` (peak memory of the
    device, on the CPU of this process; 0 on Windows), `disk_gb` (the run folder while training).
    """
    steps, per_epoch = steps_of(config, len(train))
    run = RunFolder(Path(), arm.name, config.seeds[0])
    with runtime.settled(), named_trouble(config):
        stack.fit(facts_of(*train.labels(), config))
        head_steps = head_steps_of(stack, config, steps)
        course = Course(run, stack, config, train, train, runtime, study_seed, steps, head_steps)
        model = new_model(config, runtime, rng_seed=derive(study_seed, run.seed, "model"), random_weights=True)
        optimiser = optimiser_for(model.parameters(), config.train)
        stepper = Stepper(course, model, optimiser, course.order(len(train), "order", stack.sample_weights))
        model.train()
        stack.start_epoch(0, model, course.stream("epoch", 0))
        seconds = 0.0
        for step in range(2):
            began = time.perf_counter()
            stepper(step)
            runtime.wait()
            seconds = time.perf_counter() - began
        gigabytes = _peak_gb(runtime)
    evaluations = math.ceil(steps / course.interval(steps, per_epoch))
    forward = min(evaluations, EVALUATIONS) * n_val / config.train.batch * seconds * FORWARD_SHARE
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    return {
        "seconds_per_step": seconds,
        "steps": steps,
        "hours": (steps * seconds + forward) / 3600,
        "gb": gigabytes,
        "disk_gb": 6 * weights / 1e9,  # best, last, the representation, and a resume state of model and two moments
    }


def passes(source: Mapping[str, Any], stack: Stack, config: StudyConfig, n_train: int, n_val: int) -> dict[str, Any]:
    """What one head on the features of a run would take, from what `dry_run` said of that run.

    The network reads the validation part once, and the training part once for each view; the head itself costs next to
    nothing. `seconds_per_step` is that of such a reading, `steps` counts its batches.
    """
    batches = math.ceil((n_views(stack, config) * n_train + n_val) / config.train.batch)
    seconds = source["seconds_per_step"] * FORWARD_SHARE
    hours = batches * seconds / 3600
    return {"seconds_per_step": seconds, "steps": batches, "hours": hours, "gb": source["gb"], "disk_gb": 0.0}


def _peak_gb(runtime: Runtime) -> float:
    if runtime.device.type == "cuda":
        return torch.cuda.max_memory_allocated(runtime.device) / 1e9
    if sys.platform == "win32":
        return 0.0  # not told by the standard library there
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
