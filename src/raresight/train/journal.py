"""The record of a run: its evaluations, its best weights, and the state from which it goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raresight.core.config import StudyConfig
from raresight.core.files import finite, read_json, read_jsonl, write_jsonl
from raresight.core.run import RunFolder
from raresight.evaluate.select import score
from raresight.models.backbones import Classifier
from raresight.strategies.stack import Stack
from raresight.train.checkpoint import Progress, load_resume, save_resume, save_weights
from raresight.train.predict import probabilities
from raresight.train.ranks import ALONE, Ranks
from raresight.train.stopwatch import Stopwatch
from raresight.train.trouble import not_finite

RESUME_SECONDS = 60.0  # between evaluations the state is saved this often; any step is as good as any other
WAIT_STEPS = 50  # on a device that works ahead, losses are read back (which waits for it) this often


class Journal:
    """Counts steps and losses, scores evaluations and writes what must survive a crash.

    The order of writing makes a kill harmless at every moment: weights, then events, then the state to resume from.
    A resume forgets events later than its state; the steps it repeats write the same weights and events again.
    Of several ranks the first alone scores and writes, and hands what it read to the others.
    """

    def __init__(
        self,
        run: RunFolder,
        stack: Stack,
        config: StudyConfig,
        identity: Mapping[str, Any],
        on_event: Callable[[dict[str, Any]], None] | None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.run, self.stack, self.config = run, stack, config
        self.identity, self.on_event = identity, on_event
        self.progress = Progress()
        self.events: list[dict[str, Any]] = []
        self.cases_of: Callable[[int], list[str]] = lambda step: []  # each phase says which cases a step saw
        self._unread: list[Tensor] = []
        self._waits: list[Stopwatch] = []
        self._images, self._passed, self._input_seconds = 0, 0, 0.0
        self.restart_clocks()
        self._saved_at = time.monotonic()

    def resume(self) -> dict[str, Any] | None:
        """The saved state, after setting progress and events back to it; None for a new run."""
        state = self.ranks.first(lambda: load_resume(self.run.resume, self.identity, self.run))
        if state is not None:
            self.progress = Progress(**state["progress"])
        if self.ranks.leads and self.run.events.exists():
            self.events = [row for row in read_jsonl(self.run.events) if row["step"] <= self.progress.step]
        return state

    def begin(self, phase: str) -> None:
        """Start a phase: its evaluations compete among themselves alone."""
        self.progress = Progress(phase=phase, step=self.progress.step)

    def add(self, loss: Tensor, n_images: int, waiting: Stopwatch | None = None, n_passed: int = 0) -> None:
        """Count one optimiser step, its wait for input and the images that passed the whole network, once per pass.

        Raises: RS-R46 naming the first step whose loss is not finite, and its cases.
        """
        self.progress.step += 1
        self._unread.append(loss.detach())
        self._images += n_images
        self._passed += n_passed
        if waiting is not None:
            self._waits.append(waiting)
        self._stepped = time.perf_counter()
        if loss.device.type == "cpu" or len(self._unread) >= WAIT_STEPS:
            self.read_losses()

    def read_losses(self) -> None:
        if not self._unread:
            return
        first = self.progress.step - len(self._unread) + 1
        for step, loss in enumerate(torch.stack(self._unread).tolist(), start=first):
            if not math.isfinite(loss):
                raise not_finite(step, self.cases_of(step))
            self.progress.loss_sum += loss
            self.progress.loss_count += 1
        self._unread.clear()
        self._input_seconds += sum(waiting.seconds() for waiting in self._waits)
        self._waits.clear()
        self._stepped = time.perf_counter()  # the device has done the steps by now

    def evaluated(self, model: Classifier, logits: Tensor, target: Any, best: Path, *, epoch: int, lr: float) -> None:
        """Score validation logits; write weights (called while `model` carries the deployed ones) and the event."""
        progress, settings = self.progress, self.config.train
        if not self.ranks.leads:
            progress.loss_sum, progress.loss_count = 0.0, 0
            return
        kind, costs = self.config.task.kind, self.config.costs.missed
        value = None
        if len(target):
            prob = probabilities(self.stack.adjust(logits), kind)
            missed = [costs.get(name, 0.0) for name in self.config.task.classes]
            value = finite(score(target, prob, kind, settings.select, missed))
        # Where nothing can be scored the latest weights are kept, as a run without validation would.
        improved = progress.best_score is None or (value is not None and value > progress.best_score)
        improved = improved or self._first_begun(epoch)
        if improved:
            progress.best_score, progress.best_step = value, progress.step
            save_weights(best, model, self.stack)
        save_weights(self.run.last, model, self.stack)
        seconds = time.perf_counter() - self._started
        event = {
            "phase": progress.phase,
            "step": progress.step,
            "epoch": epoch,
            "loss": progress.loss_sum / max(1, progress.loss_count),
            "score": value,
            "rule": settings.select,
            "best": improved,
            "lr": lr,
            **self._speed(),
            "seconds": round(seconds, 3),
        }
        progress.loss_sum, progress.loss_count = 0.0, 0
        self.events.append(event)
        write_jsonl(self.run.events, self.events)

    def _speed(self) -> dict[str, Any]:
        """How fast the steps since the last line were; the evaluation that ends them is not among their seconds."""
        seconds = max(self._stepped - self._started, 1e-9)
        env = read_json(self.run.env) if self.run.env.exists() else {}
        work, peak = env.get("gflop_per_image"), env.get("peak_gflops")
        share = round(self._passed * work / seconds / peak, 4) if work and peak and self._passed else None
        return {
            "images_per_s": round(self._images / seconds, 2),
            "share_of_peak": share,
            "input_share": round(self._input_seconds / seconds, 4),
            "train_seconds": round(seconds, 3),
        }

    def _first_begun(self, epoch: int) -> bool:
        """Whether the arm's deferred methods act by now, but had not begun at the best evaluation so far."""
        rows = [row for row in self.events if row["best"] and row["phase"] == self.progress.phase]
        return bool(rows) and self.stack.begun(epoch) and not self.stack.begun(rows[-1]["epoch"])

    def save(self, model: Classifier, optimiser: torch.optim.Optimizer, *, evaluated: bool) -> None:
        """Save the state to resume from: after every evaluation, and otherwise about once a minute."""
        now_and_then = self.ranks.leads and time.monotonic() - self._saved_at >= RESUME_SECONDS
        if not (evaluated or now_and_then):
            return
        self.read_losses()
        if self.ranks.leads:
            self._save(model, optimiser, told=evaluated)
        self._saved_at = time.monotonic()
        if evaluated:
            self.restart_clocks()

    def _save(self, model: Classifier, optimiser: torch.optim.Optimizer, *, told: bool) -> None:
        save_resume(self.run.resume, self.identity, self.progress, model, optimiser, self.stack)
        if told and self.on_event is not None:
            self.on_event(self.events[-1])

    def finish(self) -> None:
        """Mark the training as finished; the optimiser's state is no longer needed."""
        if self.ranks.leads:
            save_resume(self.run.resume, self.identity, self.progress)

    def restart_clocks(self) -> None:
        """Speed is measured from here on: what came before (loading, evaluating, saving) was no training."""
        self._started = self._stepped = time.perf_counter()
        self._images, self._passed, self._input_seconds = 0, 0, 0.0
        self._waits.clear()
