"""timm's model and weight averaging, our augmentation and weights: 04_own_timm_loop.py STUDY OUT.csv [STEPS]"""

import sys

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3

from raresight import Study
from raresight.core.seeds import torch_rng
from raresight.strategies import ClassWeights, Facts, HeavyAugment
from raresight.strategies.losses.cross_entropy import cross_entropy

study = Study.open(sys.argv[1])
steps = int(sys.argv[3]) if len(sys.argv) > 3 else 200
train, val = study.arrays("train"), study.arrays("val")


def tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


x, y = tensor(train.images), torch.from_numpy(train.target)
facts = Facts("exclusive", study.task.classes, y, torch.ones_like(y), preset="dermoscopy")
augment, weights = HeavyAugment(), ClassWeights(scheme="effective")
augment.fit(facts)
weights.fit(facts)

torch.manual_seed(0)
model = timm.create_model("resnet10t", num_classes=y.shape[1], in_chans=x.shape[1])
optimiser = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
ema = ModelEmaV3(model, decay=0.9)
for step in range(steps):
    ids = torch.randint(len(x), (32,), generator=torch_rng("example", "batch", step))
    images, target = augment.mix_inputs(x[ids], y[ids], torch_rng("example", "augment", step))
    weight = weights.case_weights(target, ids, epoch=0)
    loss, _ = cross_entropy(model((images - 0.5) / 0.25), target, torch.ones_like(target), weight, kind="exclusive")
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    ema.update(model, step)

with torch.no_grad():
    logits = ema.module.eval()((tensor(val.images) - 0.5) / 0.25)
print(study.write_predictions(sys.argv[2], "val", logits.numpy()))
