"""`raresight demo`: the whole line on the built-in phantom, test part included, in a few minutes."""

from __future__ import annotations

from pathlib import Path

from raresight.core.files import write_text
from raresight.core.progress import Silent
from raresight.core.run import StudyFolder
from raresight.verbs.opened import OpenStudy
from raresight.verbs.run import run

STUDY = """\
# The demo: a phantom of dermoscopy, drawn from parameters, with a class that makes up 1% of the images.
data: {manifest: data/manifest.csv, root: phantom}
task: {kind: exclusive, classes: CLASSES, critical: [melanoma, bcc]}
split: {train: 0.6, val: 0.2, test: 0.2, group: patient_id, seed: 0}
decision: {unit: image}
image: {size: 64, preset: dermoscopy}
model: {backbone: resnet18, pretrained: false}
train: {steps: STEPS, batch: 64, lr: 1.0e-3, select: macro_auprc}
seeds: [0]
arms:
  baseline: []
  cost_sensitive: [class_weights]
  heavy_augment: [heavy_augment]
  hybrid: [heavy_augment, smote, {focal: {gamma: 2}}]
  threshold_moved: [logit_adjustment]
costs: {missed: {melanoma: 20, bcc: 10}}
quick: true
"""


def demo(out: Path, *, steps: int = 200, n_patients: int = 400, progress: Silent | None = None) -> Path:
    """Draw the phantom, run every step, open the test part; return the report's path. Runs again where it was left."""
    from raresight.data.phantom import make_phantom
    from raresight.data.read import ReadOptions, read

    folder = StudyFolder(out)
    say = (progress or Silent()).say
    if not folder.config.exists():
        say("drawing the phantom")
        with (progress or Silent()).bar("drawing") as advance:
            make_phantom(out / "phantom", n_patients=n_patients, seed=0, progress=advance)
        reading = read("csv", out / "phantom" / "manifest.csv", ReadOptions(group_col="lesion_id"))
        reading.manifest.save(folder.manifest)
        text = STUDY.replace("CLASSES", str(list(reading.classes))).replace("STEPS", str(steps))
        write_text(folder.config, text)
    study = OpenStudy.open(out, progress)
    path = run(study, open_test=True)
    assert path is not None  # the phantom has images
    return path
