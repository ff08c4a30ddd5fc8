"""Small networks that are looked into: some plain, some with what makes looking go wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Weighed(nn.Module):
    """Logits z_k = sum over channels and places of V_kcs a_cs + b_k, where `layer` doubles the image: a = 2 x."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        k, c = weight.shape[:2]
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[weight.ndim - 3]
        self.layer = convolution(c, c, 1, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(2 * torch.eye(c).view(c, c, *[1] * (weight.ndim - 2)))
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(torch.zeros(k) if bias is None else bias.clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).flatten(1) @ self.weight.flatten(1).T + self.bias


class Small(nn.Module):
    """Two convolutions with batch normalisation, a ReLU in place behind each, dropout, mean, linear."""

    def __init__(self, n_classes: int = 3, *, spatial: int = 2, seed: int = 0, flat: bool = False) -> None:
        super().__init__()
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[spatial - 1]
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[spatial - 1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first = nn.Sequential(convolution(1, 4, 3, 2, 1), norm(4), nn.ReLU(inplace=True))
            self.conv = convolution(4, 6, 3, 2, 1)
            self.norm = norm(6)
            self.relu = nn.ReLU(inplace=True)
            self.drop = nn.Dropout(0.5)
            self.fc = nn.Linear(6, n_classes)
            with torch.no_grad():
                for part in (self.first[1], self.norm):
                    part.running_mean.uniform_(-0.2, 0.2)
                    part.running_var.uniform_(0.2, 0.6)
                    part.bias.uniform_(-0.2, 0.4)
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        a = self.drop(self.relu(self.norm(self.conv(self.first(x)))))
        logits = self.fc(a.flatten(2).mean(2))
        return logits[:, 0] if self.flat else logits


class Pair(nn.Module):
    """A block that gives two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.conv(x)
        return a, a.mean((2, 3))


class TwoOutputs(nn.Module):
    """`block` gives a pair; the logits come from its first tensor."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.stem = nn.Conv2d(1, 4, 3, 2, 1)
            self.block = Pair()
            self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block(self.stem(x))[0].relu().mean((2, 3)))


class Twice(nn.Module):
    """`shared` is called two times, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            self.stem = nn.Conv2d(1, 4, 3, 2, 1)
            self.shared = nn.Conv2d(4, 4, 3, padding=1)
            self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.shared(self.shared(self.stem(x)).relu()).relu().mean((2, 3)))


class Tokens(nn.Module):
    """A vision transformer in small: patches, a class token, one layer of attention, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        return self.fc(self.norm(self.attention(tokens))[:, 0])


class ChannelsLast(nn.Module):
    """As swin: patches, then maps `(B, *s, C)` and attention weights `(B, 1, tokens, tokens)`."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, 4)
        self.mix = nn.Linear(8, 8)
        self.scores = nn.Softmax(dim=-1)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.mix(self.patches(x).permute(0, 2, 3, 1))
        tokens = a.flatten(1, 2)
        weights = self.scores((tokens @ tokens.transpose(1, 2))[:, None])[:, 0]
        return self.fc((weights @ tokens).mean(1))
