"""What networks are looked at with: labelled images of patients, and where the pathology lies, if anybody drew it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from raresight.core.errors import DataError, Problem
from raresight.core.seeds import numpy_rng

Pixels = Callable[[np.ndarray], np.ndarray]
MISSING = ("nan", "NaT", "<NA>")  # how a patient that a table does not name is written


@dataclass(frozen=True)
class Regions:
    """Where findings lie: R annotated (image, class) pairs, each with one mask on the grid of the network's input.

    `row` `(R,)` int64 is the image's row in the probe, `label` `(R,)` int64 the class, `packed` `(R, ceil(P/8))` uint8
    the mask's P pixels by `numpy.packbits`, `shape` the grid `(*S)`. A pair that is not listed was not annotated, which
    is not an empty mask: nothing is measured there. `kind` is `mask` or `box`. A mask without a pixel is refused.

    Raises: `DataError` RS-M47 for a pair listed twice, a row or class out of range, or an empty mask.
    """

    row: np.ndarray
    label: np.ndarray
    packed: np.ndarray
    shape: tuple[int, ...]
    kind: str = "mask"

    def __post_init__(self) -> None:
        if not len(self.row) == len(self.label) == len(self.packed):
            found = f"{len(self.row)} rows, {len(self.label)} labels and {len(self.packed)} masks"
            raise _refused(found, "give one row and one label for every mask")
        pairs = np.stack([self.row, self.label], axis=1)
        if len(np.unique(pairs, axis=0)) < len(pairs):
            raise _refused("one image has two masks of one class", "join them: a pixel is inside where any of them is")
        empty = np.flatnonzero(~self.packed.any(axis=1))
        if len(empty):
            found = f"{len(empty)} masks have no pixel, the first of the image in row {self.row[empty[0]]}"
            raise _refused(found, "leave such pairs out: a finding whose place is unknown is not annotated")

    @classmethod
    def of(cls, row: Sequence[int], label: Sequence[int], masks: np.ndarray, *, kind: str = "mask") -> Regions:
        """From masks `(R, *S)` of bool, of 0 and 1, or of 0 and 255; R may be 0.

        Raises: `DataError` RS-M47 for masks of other values, as resizing leaves them: where they end is yours to say.
        """
        masks = np.asarray(masks)
        if masks.ndim < 2:
            raise _refused(f"masks of shape {masks.shape}", "give (regions, *size): one mask for every row and label")
        flat = _inside(masks).reshape(len(masks), int(np.prod(masks.shape[1:])))
        shape = tuple(masks.shape[1:])
        return cls(
            np.asarray(row, dtype=np.int64), np.asarray(label, dtype=np.int64), np.packbits(flat, 1), shape, kind
        )

    @classmethod
    def of_boxes(cls, row: Sequence[int], label: Sequence[int], boxes: np.ndarray, shape: Sequence[int]) -> Regions:
        """From boxes `(R, 2 d)`: the lower corner, then the upper one, in pixels, in the order of `shape`'s axes.

        Half-open and by pixel centres: pixel i is inside where low <= i + 1/2 < high, so boxes that share an edge share
        no pixel. A box too thin to hold a centre keeps the one pixel that its middle lies in. Boxes of one image and
        class are joined.
        """
        d = len(shape)
        joined: dict[tuple[int, int], np.ndarray] = {}
        wanted = (len(row), 2 * d)
        if len(label) != len(row) or np.shape(boxes) != wanted:
            found = f"{len(row)} rows, {len(label)} labels and boxes of shape {np.shape(boxes)}"
            raise _refused(found, f"give one row, one label and {2 * d} numbers for every box")
        for r, k, box in zip(row, label, np.asarray(boxes, dtype=np.float64), strict=True):
            inside = np.ones(tuple(shape), dtype=bool)
            for axis, n in enumerate(shape):
                low, high = box[axis], box[d + axis]
                centre = np.arange(n) + 0.5
                line = (centre >= low) & (centre < high)
                if not line.any():
                    line[min(max(int((low + high) / 2), 0), n - 1)] = True
                inside &= line.reshape([-1 if a == axis else 1 for a in range(d)])
            key = (int(r), int(k))
            joined[key] = joined[key] | inside if key in joined else inside
        rows, labels = [r for r, _ in joined], [k for _, k in joined]
        return cls.of(rows, labels, np.array(list(joined.values())).reshape(-1, *shape), kind="box")

    def __len__(self) -> int:
        return len(self.row)

    def masks(self, which: Sequence[int] | np.ndarray | slice = slice(None)) -> np.ndarray:
        """The masks of some pairs, `(r, *S)` bool."""
        flat = np.unpackbits(self.packed[which], axis=1, count=int(np.prod(self.shape)))
        return flat.astype(bool).reshape(-1, *self.shape)

    @cached_property
    def area(self) -> np.ndarray:
        """The share of the image that each mask covers, `(R,)` in (0, 1]."""
        counts = np.concatenate(
            [
                self.masks(slice(s, s + 256)).reshape(-1, int(np.prod(self.shape))).sum(1)
                for s in range(0, max(len(self), 1), 256)
            ]
        )
        return counts / float(np.prod(self.shape))

    def take(self, rows: np.ndarray) -> Regions:
        """The regions of the images in `rows`, renumbered in their order."""
        place = {int(r): i for i, r in enumerate(rows)}
        kept = np.array([i for i, r in enumerate(self.row) if int(r) in place], dtype=np.int64)
        row = np.array([place[int(self.row[i])] for i in kept], dtype=np.int64)
        return Regions(row, self.label[kept], self.packed[kept], self.shape, self.kind)


@dataclass(frozen=True)
class ProbeSet:
    """N images with labels and patients, and the regions of some findings.

    `images` is an array `(N, C, *S)` of float in [0, 1] (uint8 and uint16 are scaled by their largest value), or a
    function that gives such a block for an array of rows, so that a probe larger than memory is read as it is needed;
    `n_images` is then required by `labels`. `labels` `(N, K)` are 0, 1 or NaN (unknown); `classes` their K names;
    `patients` `(N,)` whatever tells patients apart, the unit that is resampled. `regions` may be None: then maps are
    compared with each other alone, and units are judged by labels. `part` says which part of the data this is.

    Raises: `DataError` RS-M47 where shapes, label values or regions do not fit each other, a class is named twice, or
    an image has no patient.
    """

    images: np.ndarray | Pixels
    labels: np.ndarray
    patients: np.ndarray
    classes: tuple[str, ...] = ()
    cases: np.ndarray | None = None
    regions: Regions | None = None
    part: str = ""

    def __post_init__(self) -> None:
        try:
            labels = np.asarray(self.labels, dtype=np.float64)
        except (ValueError, TypeError) as cause:
            raise _refused(f"labels are no numbers ({cause})", "labels are 0, 1, or NaN where unknown") from cause
        labels = labels[:, None] if labels.ndim == 1 else labels
        if labels.ndim != 2:
            raise _refused(f"labels of shape {labels.shape}", "give (images, classes): one column a class")
        object.__setattr__(self, "labels", labels)
        n, k = labels.shape
        object.__setattr__(self, "classes", tuple(self.classes) or tuple(f"class {i}" for i in range(k)))
        object.__setattr__(self, "patients", _patients(self.patients))
        cases = np.arange(n).astype(str).astype(object) if self.cases is None else np.asarray(self.cases, dtype=object)
        object.__setattr__(self, "cases", cases)
        sizes = {"labels": n, "patients": len(self.patients), "cases": len(cases)}
        sizes |= {} if callable(self.images) else {"images": len(self.images)}
        if len(set(sizes.values())) > 1:
            found = ", ".join(f"{size:,} {name}" for name, size in sizes.items())
            raise _refused(found, "give one label row, one patient and one case for every image")
        if len(self.classes) != k:
            raise _refused(f"{k} label columns and {len(self.classes)} classes", "name every column once")
        twice = [name for i, name in enumerate(self.classes) if name in self.classes[:i]]
        if twice:
            raise _refused(f"two label columns are called '{twice[0]}'", "name every class differently")
        wrong = labels[~(np.isnan(labels) | (labels == 0) | (labels == 1))]
        if len(wrong):
            raise _refused(f"a label of {wrong[0]:g}", "labels are 0, 1, or NaN where unknown")
        marked = self.regions
        if marked is not None and len(marked):
            outside = (marked.row < 0) | (marked.row >= n) | (marked.label < 0) | (marked.label >= k)
            if outside.any():
                i = int(np.flatnonzero(outside)[0])
                found = f"a region of image {marked.row[i]}, class {marked.label[i]}"
                raise _refused(found, f"there are {n} images and {k} classes, counted from 0")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_classes(self) -> int:
        return len(self.classes)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Images of `rows` as `(n, C, *S)` float32 in [0, 1]."""
        block = np.asarray(self.images(rows) if callable(self.images) else self.images[rows])
        if np.issubdtype(block.dtype, np.integer):
            return block.astype(np.float32) / np.float32(np.iinfo(block.dtype).max)
        return block.astype(np.float32, copy=False)

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """The rows in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield np.arange(start, min(start + size, len(self)))

    @cached_property
    def n_positive_patients(self) -> np.ndarray:
        """How many patients have each finding, `(K,)`."""
        return np.array([len(set(self.patients[self.labels[:, k] == 1])) for k in range(self.n_classes)])

    def take(self, rows: np.ndarray) -> ProbeSet:
        """Some of the images, in the order of `rows`."""
        rows = np.asarray(rows)
        source = self.images
        images = (lambda some: source(rows[some])) if callable(source) else source[rows]
        regions = None if self.regions is None else self.regions.take(rows)
        assert self.cases is not None
        return ProbeSet(
            images, self.labels[rows], self.patients[rows], self.classes, self.cases[rows], regions, self.part
        )

    def balanced(self, per_class: int, *names: object) -> np.ndarray:
        """Rows of a probe with at most `per_class` images of each class, of one patient as few as can be; sorted.

        As many images without any finding are among them: where all findings have a class in common, only those lack
        it. `names` seed the draw.
        """
        rng = numpy_rng("balanced probe", *names)
        chosen: set[int] = set()
        for of_class in (*(self.labels == 1).T, (self.labels == 0).all(axis=1)):
            rows = rng.permutation(np.flatnonzero(of_class))
            seen: dict[object, int] = {}
            turns = []  # an image of a patient who was met t times before comes in turn t
            for row in rows:
                turns.append(seen.get(self.patients[row], 0))
                seen[self.patients[row]] = turns[-1] + 1
            chosen |= {int(row) for row in rows[np.argsort(turns, kind="stable")[:per_class]]}
        return np.array(sorted(chosen), dtype=np.int64)


def bands(classes: Sequence[str], counts: Mapping[str, int]) -> dict[str, str]:
    """Class -> `head`, `middle` or `tail`: a third of the classes each, by training count, the commonest first.

    The keys are in the order of the counts, not of `classes`. Without any count nothing is said: empty.
    """
    if not any(counts.get(name, 0) for name in classes):
        return {}
    order = sorted(classes, key=lambda name: -counts.get(name, 0))
    third = len(order) / 3
    return {name: ("head", "middle", "tail")[min(int(i / third), 2)] for i, name in enumerate(order)}


def _inside(masks: np.ndarray) -> np.ndarray:
    """Where masks of one value beside 0 are inside."""
    if masks.dtype == bool or not masks.size:
        return masks.astype(bool)
    try:
        inside = masks != 0
        other = masks[inside & (masks != masks.max())]
        top = float(masks.max())
    except TypeError as cause:
        raise _refused(f"masks of {masks.dtype}", "give masks of bool, of 0 and 1, or of 0 and 255") from cause
    if len(other) or top not in (0.0, 1.0, 255.0):
        value = float(other[0]) if len(other) else top
        raise _refused(
            f"a mask with the value {value:g}; expected bool, 0 and 1, or 0 and 255",
            "say what is inside, such as masks >= 0.5 where they were resized between 0 and 1, or masks > 0",
        )
    return np.asarray(inside)


def _patients(given: object) -> np.ndarray:
    """`(N,)`, none of them missing; of several types, by their names."""
    patients = np.asarray(given)
    if patients.ndim != 1:
        raise _refused(f"patients of shape {patients.shape}", "give one patient for every image: (images,)")
    missing = np.array([one is None or one == "" or str(one) in MISSING for one in patients.tolist()], dtype=bool)
    if missing.any():
        first = int(np.flatnonzero(missing)[0])
        raise _refused(
            f"{int(missing.sum()):,} of {len(patients):,} images have no patient, the first is image {first}",
            "name the patient of every image: patients are what is resampled, and whose images are kept together",
        )
    mixed = patients.dtype == object and len({type(one) for one in patients}) > 1  # such do not sort
    return patients.astype(str).astype(object) if mixed else patients


def _refused(found: str, remedy: str) -> DataError:
    return DataError(
        Problem(
            code="RS-M47",
            level="error",
            file="the probe",
            found=found,
            why="maps and masks would be compared across different images",
            remedy=remedy,
        )
    )
