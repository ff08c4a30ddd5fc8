"""A method of your own as an arm: python examples/05_own_method.py STUDY

It becomes the arm `mine` of the study, is trained for one seed and compared like every other arm.
"""

import sys
from pathlib import Path

import torch
import yaml

from raresight import Study
from raresight.strategies import Strategy


class CubeRootWeights(Strategy):
    """Weight every case by its class's count to the power -1/3. Exclusive labels."""

    name, place, source = "cube_root_weights", "losses", "this example"
    kinds = ("exclusive",)

    def __init__(self, *, power: float = 1 / 3) -> None:  # the arguments are the settings in study.yaml
        self.power = power

    @classmethod
    def neutral(cls):
        return {"power": 0.0}  # where it is plain training

    def fit(self, facts):  # labels of the training part, and nothing else
        weight = facts.n_positive.clamp(min=1) ** -self.power
        weight = weight / (facts.prior * weight).sum()  # mean weight 1, so the learning rate keeps its meaning
        self.weight_ = torch.where(facts.n_positive > 0, weight, 1.0)

    def case_weights(self, target, ids, epoch):
        return self.weight_.to(target)[None]

    def log_prior_shift(self):  # by this much the rare class's logit rises; `raresight tune` takes it out again
        return self.weight_.log()


def main(folder: Path) -> None:
    written = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    written["arms"]["mine"] = [{"05_own_method:CubeRootWeights": {"power": 0.5}}]  # package.module:Class
    (folder / "study.yaml").write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
    study = Study.open(folder)
    study.train(arms=["mine"], seeds=[0])
    study.tune()
    for estimate in study.evaluate():
        if (estimate.arm, estimate.metric) == ("mine", "macro_auprc"):
            print("mine: macro AUPRC", estimate.value, "from", estimate.low, "to", estimate.high)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
