"""Low-rank adaptation: nothing at first, the same merged as applied, and only its own matrices trained."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from streamer.tuning.lora import LoraLinear, add_lora, merge_lora

RANK = 2


def model() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.Sequential(nn.GELU(), nn.Linear(8, 5)), nn.Linear(5, 1))


def test_it_begins_as_the_model_and_merges_into_what_it_applied() -> None:
    plain, adapted, x = model(), model(), torch.randn(4, 6)
    add_lora(adapted, RANK, seed=3)
    torch.testing.assert_close(adapted(x), plain(x), atol=0, rtol=0)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight))
    applied = adapted(x)
    assert not torch.allclose(applied, plain(x), atol=1e-2)
    merge_lora(adapted)
    torch.testing.assert_close(adapted(x), applied, atol=1e-5, rtol=0)
    assert adapted.state_dict().keys() == plain.state_dict().keys()


def test_only_layers_larger_than_the_rank_are_adapted_and_only_that_is_trained() -> None:
    adapted = model()
    before = deepcopy(adapted.state_dict())
    add_lora(adapted, RANK, seed=3)
    wrapped = [one for one in adapted.modules() if isinstance(one, LoraLinear)]
    assert [one.up.shape[0] for one in wrapped] == [8, 5]  # the last layer has one output
    trained = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert {name.rpartition(".")[2] for name in trained} == {"down", "up"}
    adapted(torch.randn(3, 6)).sum().backward()
    merge_lora(adapted)
    for name, weight in adapted.state_dict().items():
        torch.testing.assert_close(weight, before[name], atol=0, rtol=0)


def test_a_seed_decides_where_it_begins() -> None:
    def first(seed: int) -> torch.Tensor:
        one = model()
        add_lora(one, RANK, seed=seed)
        return next(weight for name, weight in one.named_parameters() if name.endswith("down"))

    torch.testing.assert_close(first(1), first(1), atol=0, rtol=0)
    assert not torch.equal(first(1), first(2))
