"""Your own Lightning module: python examples/03_own_lightning_loop.py STUDY OUT.csv [STEPS]"""

import sys

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from raresight import Study
from raresight.strategies import BalancedSoftmax, Facts

study = Study.open(sys.argv[1])
steps = int(sys.argv[3]) if len(sys.argv) > 3 else 200
train, val = study.arrays("train"), study.arrays("val")


def tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


class Classifier(lightning.LightningModule):
    def __init__(self, channels, n_classes, strategy):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, 16, 5, stride=4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(256, n_classes),
        )
        self.strategy = strategy

    def training_step(self, batch, index):
        images, target = batch
        ones = torch.ones_like(target)
        loss, _ = self.strategy.loss(self.net(images), target, ones, ones, ids=torch.arange(len(images)))
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


x, y = tensor(train.images), torch.from_numpy(train.target)
strategy = BalancedSoftmax(tau=1.0)
strategy.fit(Facts("exclusive", study.task.classes, y, torch.ones_like(y)))
lightning.seed_everything(0)
model = Classifier(x.shape[1], y.shape[1], strategy)
trainer = lightning.Trainer(
    max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
)
trainer.fit(model, DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True))

with torch.no_grad():
    logits = model.eval().net(tensor(val.images))
print(study.write_predictions(sys.argv[2], "val", logits.numpy()))
