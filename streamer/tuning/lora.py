"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685): train two thin matrices beside each large one.

Enters: a model. Leaves: the same model with its linear layers wrapped, and after `merge_lora` the same model as it was
made, the difference added to its weights, so that what serves it knows nothing of it.

Must not know: labels, texts, files.
"""

from __future__ import annotations

from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

ALPHA: Final = 16.0  # the paper's scale; what is added is ALPHA / rank * up @ down


class LoraLinear(nn.Module):
    """A linear layer kept as it is, and `up @ down` of a low rank that is added to it; zero at the start.

    Shapes: down (rank, inputs), up (outputs, rank).
    """

    def __init__(self, base: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        drawn = torch.randn(rank, base.in_features, generator=generator) * base.in_features**-0.5
        self.down = nn.Parameter(drawn.to(base.weight.device))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, device=base.weight.device))
        self._scale = ALPHA / rank

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.base(x)) + linear(linear(x, self.down), self.up) * self._scale

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The layer it wraps, with what it learned added to its weight."""
        self.base.weight += (self.up @ self.down * self._scale).to(self.base.weight.dtype)
        return self.base


def add_lora(model: nn.Module, rank: int, *, seed: int) -> None:
    """Wrap every linear layer that is larger than its adaptation would be; nothing else of the model is trained."""
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and rank < min(child.in_features, child.out_features):
                setattr(parent, name, LoraLinear(child, rank, generator))


def merge_lora(model: nn.Module) -> None:
    """Undo `add_lora`, keeping what was learned."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLinear):
                setattr(parent, name, child.merged())
