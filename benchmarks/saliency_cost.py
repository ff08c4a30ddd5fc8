"""What looking costs: the maps of all classes of a batch over one plain forward pass, beside Captum's one call a class.

One network (random weights), one batch of noise, one process, variants in turns; a plain pass once more is the A/A
control. Captum is called as its documentation shows: `LayerGradCam(model, layer).attribute(x, target)`, once a class.

    python benchmarks/saliency_cost.py --table saliency-cost.md
    python benchmarks/saliency_cost.py --backbone densenet121 --size 112 --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from captum.attr import LayerGradCam
from interleaved import Turn, heading, interleave, machine, ratios, spread, write
from torch import Tensor, nn

from raresight.core.task import Task
from raresight.explain.layers import spatial_layers
from raresight.explain.saliency import class_maps
from raresight.models.backbones import build
from raresight.train.runtime import Runtime

PLAIN, CONTROL = "plain forward", "plain forward, again (A/A)"
BOTH = ("grad_cam", "hires_cam")
AIM = 1.2


def plain(model: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    def forward() -> Tensor:
        with torch.no_grad():
            return model(x)

    return forward


def by_captum(model: nn.Module, x: Tensor, layer: str, labels: Sequence[int]) -> Tensor:
    explained = LayerGradCam(model, dict(model.named_modules())[layer])
    return torch.cat([explained.attribute(x, target=label).detach() for label in labels], 1).relu()


def variants(model: nn.Module, x: Tensor, k: int) -> dict[str, Turn]:
    *_, before, last = (layer.name for layer in spatial_layers(model, x))
    return {
        PLAIN: Turn(plain(model, x)),
        CONTROL: Turn(plain(model, x)),
        f"ours, {k} classes, last stage: Grad-CAM": Turn(lambda: class_maps(model, x, [last], ["grad_cam"])),
        f"ours, {k} classes, last stage: Grad-CAM and HiResCAM": Turn(lambda: class_maps(model, x, [last], BOTH)),
        f"ours, {k} classes, last but one stage: both": Turn(lambda: class_maps(model, x, [before], BOTH)),
        f"ours, {k} classes, last two stages at once: both": Turn(lambda: class_maps(model, x, [before, last], BOTH)),
        "Captum LayerGradCam, 1 class, last stage": Turn(lambda: by_captum(model, x, last, [0])),
        f"Captum LayerGradCam, {k} classes, last stage": Turn(lambda: by_captum(model, x, last, range(k))),
    }


def agreement(model: nn.Module, x: Tensor, k: int) -> float:
    """The largest difference between our Grad-CAM and Captum's, as a share of the largest value."""
    last = spatial_layers(model, x)[-1].name
    ours, peer = class_maps(model, x, [last]).maps[last, "grad_cam"], by_captum(model, x, last, range(k))
    return float((ours - peer).abs().max() / peer.max())


def rows(seconds: dict[str, list[float]]) -> list[str]:
    lines = ["| what | over a plain forward, median (quartiles) | aim | met |", "|---|---|---|---|"]
    for name, found in seconds.items():
        if name != PLAIN:
            over = ratios(found, seconds[PLAIN])
            judged = name.startswith("ours") and "last stage:" in name
            met = "yes" if statistics.median(over) <= AIM else "**no**"
            lines.append(f"| {name} | {spread(over)} | {f'{AIM} | {met}' if judged else '| '} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--classes", type=int, default=14)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--table", type=Path)
    asked = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    runtime = Runtime(device, "fp32", channels_last=False, threads=1)
    task = Task("independent", tuple(f"finding {i}" for i in range(asked.classes)))
    with runtime.settled():
        model = build(asked.backbone, task, channels=3, pretrained=False, rng_seed=0).to(device).eval()
        noise = torch.Generator().manual_seed(0)
        x = torch.rand((asked.batch, 3, asked.size, asked.size), generator=noise).to(device)
        # Images as the network wants them, so that what is measured is the network and not its normalisation.
        model.mean.zero_()
        model.std.fill_(1.0)
        apart = agreement(model, x, asked.classes)
        seconds = interleave(variants(model, x, asked.classes), asked.rounds, runtime)
    about = [
        f"{machine(runtime)}, captum {version('captum')}.",
        f"{asked.backbone} with random weights, noise images of {asked.size} px, batch {asked.batch}, "
        f"{asked.classes} classes, fp32; {asked.rounds} rounds",
        "in one process, each in an order of its own; CPU time on a CPU, wall time on a GPU; ratios within rounds.",
        f"A plain forward takes {1000 * statistics.median(seconds[PLAIN]):.0f} ms.",
        f"Our maps differ from Captum's by at most {apart:.1e} of the largest value.",
    ]
    lines = heading("What looking costs", "python benchmarks/saliency_cost.py", about) + rows(seconds)
    write("\n".join(lines), asked.table)


if __name__ == "__main__":
    main()
