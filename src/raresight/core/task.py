"""What is asked of a model: the kind of label, the classes, and the space in which they are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from raresight.core.errors import ConfigError, Problem, nearest

Kind = Literal["exclusive", "independent"]


@dataclass(frozen=True)
class Task:
    """`kind` (exclusive = one class a case, softmax; independent = any number, sigmoid) x `classes` x `space`.

    Logits and targets are always `(B, K, *S)`. `space` is the number of axes in `S`: 0 for images, 1 for detector
    anchors, 2 or 3 for segmentation. A mask broadcasts to the target; 0 means that the label is unknown.
    `critical` are the classes that must not be missed.
    """

    kind: Kind
    classes: tuple[str, ...]
    critical: tuple[str, ...] = ()
    space: int = 0

    def __post_init__(self) -> None:
        for name in self.critical:
            if name not in self.classes:
                close = nearest(name, self.classes)
                raise ConfigError(
                    Problem(
                        code="RS-C33",
                        level="error",
                        file="study.yaml",
                        column="task.critical",
                        found=f"critical class '{name}' is not one of the classes {', '.join(self.classes)}",
                        why="its recall would never be reported",
                        remedy=f"did you mean '{close}'?" if close else "name a class of task.classes",
                    )
                )

    @property
    def n_classes(self) -> int:
        return len(self.classes)

    def index(self, name: str) -> int:
        return self.classes.index(name)
