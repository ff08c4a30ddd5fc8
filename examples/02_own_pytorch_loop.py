"""Your own PyTorch loop: python examples/02_own_pytorch_loop.py STUDY OUT.csv [STEPS]

Our split in, our sampler and loss attached, our predictions out. Then `raresight score OUT.csv`, or in study.yaml
`arms: {mine: {predictions: {val: OUT.csv}}}`.
"""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from raresight import Study
from raresight.strategies import ClassBalancedSampling, Facts, Focal

study = Study.open(sys.argv[1])
steps = int(sys.argv[3]) if len(sys.argv) > 3 else 200
train, val = study.arrays("train"), study.arrays("val")


def tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


x, y = tensor(train.images), torch.from_numpy(train.target)
known = torch.ones_like(y)
facts = Facts("exclusive", study.task.classes, y, known)
sampling, focal = ClassBalancedSampling(), Focal(gamma=2)
sampling.fit(facts)
focal.fit(facts)

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(x.shape[1], 16, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, y.shape[1])
)
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
sampler = WeightedRandomSampler(sampling.sample_weights().tolist(), num_samples=32 * steps)
for images, target in DataLoader(TensorDataset(x, y), batch_size=32, sampler=sampler):
    mask = weight = torch.ones_like(target)
    loss, _ = focal.loss(model(images), target, mask, weight, ids=torch.arange(len(images)))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()

with torch.no_grad():
    logits = model(tensor(val.images))
print(study.write_predictions(sys.argv[2], "val", logits.numpy()))
