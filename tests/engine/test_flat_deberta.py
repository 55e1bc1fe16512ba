"""DeBERTa over flat batches against its slow twin, transformers' DebertaV2Model on each sequence alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from streamer.engine.flat import Wanted, flat_batch, flat_ids
from streamer.engine.flat_deberta import FlatDeberta
from tests.engine.test_deberta import VARIANTS, make_model

# around the bucket of 8 and the farthest distance of 39; the run of 800 tokens is attended to in parts
LENGTHS = (800, 800, 100, 41, 41, 40, 9, 8, 2, 2, 1)


def sequences(lengths: tuple[int, ...]) -> list[list[int]]:
    ids = torch.randint(1, 50, (sum(lengths),), generator=torch.Generator().manual_seed(len(lengths)))
    return [part.tolist() for part in torch.split(ids, list(lengths))]


def last_states(ours: FlatDeberta, words: Tensor, rows: list[list[int]], picked: list[list[int]]) -> Tensor:
    """States of the tokens at `picked` of each row."""
    _, positions, starts = flat_ids(rows)
    lengths = [len(row) for row in rows]
    index = torch.tensor([start + i for start, some in zip(starts.tolist(), picked, strict=True) for i in some])
    places = torch.from_numpy(positions)
    wanted = Wanted(index=index, positions=places[index], batch=flat_batch(lengths, [len(some) for some in picked]))
    return ours.wanted_states(words, places, flat_batch(lengths, [0] * len(rows)), wanted)


@torch.inference_mode()
@pytest.mark.parametrize("changed", VARIANTS)
def test_states_are_those_of_each_sequence_alone(changed: dict[str, Any]) -> None:
    """In float32, within 1e-5 where a state is of size one to three; some tokens of each sequence are asked for."""
    model = make_model(**changed)
    rows = sequences(LENGTHS)
    expected = [model(input_ids=torch.tensor([row])).last_hidden_state[0] for row in rows]
    ours = FlatDeberta(model)
    words = model.embeddings.word_embeddings(torch.tensor([one for row in rows for one in row]))
    for picked in ([list(range(len(row))) for row in rows], [sorted({0, len(row) // 2}) for row in rows]):
        states = last_states(ours, words, rows, picked)
        theirs = torch.cat([of_row[some] for of_row, some in zip(expected, picked, strict=True)])
        torch.testing.assert_close(states, theirs, atol=1e-5, rtol=0.0)


@torch.inference_mode()
def test_bfloat16_is_as_close_as_transformers_in_bfloat16() -> None:
    """Rounding in every layer moves states by a few hundredths; ours by no more than half again of what theirs do."""
    exact, half = make_model(), make_model().bfloat16()
    rows = sequences((100, 40, 40, 9))
    expected, theirs = (
        torch.cat([model(input_ids=torch.tensor([row])).last_hidden_state[0] for row in rows]).float()
        for model in (exact, half)
    )
    words = half.embeddings.word_embeddings(torch.tensor([one for row in rows for one in row]))
    states = last_states(FlatDeberta(half), words, rows, [list(range(len(row))) for row in rows])
    assert states.dtype == torch.bfloat16
    off, allowed = (states.float() - expected).abs(), (theirs - expected).abs()
    assert float(off.mean()) <= 1.5 * float(allowed.mean())
    assert float(off.mean()) < 0.05
