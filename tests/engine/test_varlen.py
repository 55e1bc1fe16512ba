"""Which kernels a device gets, and the flat encoders on the kernels of a GPU (slow twins of them, int32 indices)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from transformers import ModernBertConfig
from transformers.models.modernbert.modeling_modernbert import ModernBertModel

from streamer.engine.flat import RunKernels, Wanted, flat_batch, flat_ids
from streamer.engine.flat_independent import FlatIndependent, LabelTable
from streamer.engine.flat_modernbert import FlatModernBert
from streamer.engine.flat_uniencoder import FlatUniEncoder
from streamer.engine.independent import IndependentLabelModel
from streamer.engine.loading import load_independent, load_uniencoder
from streamer.engine.padded_independent import PaddedIndependent
from streamer.engine.padding import pad
from streamer.engine.staging import DirectTransfers, StagedTransfers
from streamer.engine.varlen import choose_kernels
from tests.engine.slow_kernels import slow_varlen

CPU = torch.device("cpu")


def ids_of(tokens: int, seed: int) -> list[int]:
    return [int(i) for i in torch.randint(5, 100, (tokens,), generator=torch.Generator().manual_seed(seed))]


def test_a_cpu_has_kernels_of_its_own() -> None:
    with capture_logs() as logs:
        assert isinstance(choose_kernels(CPU, torch.float32, 7), RunKernels)
    assert not logs


@pytest.mark.parametrize("kind", ["mps", "meta"])
def test_where_there_are_no_kernels_batches_are_padded_and_the_log_says_why(kind: str) -> None:
    with capture_logs() as logs:
        assert choose_kernels(torch.device(kind), torch.bfloat16, 64) is None
    assert [line["event"] for line in logs] == ["batches are padded"]
    assert "no kernel for variable lengths" in logs[0]["reason"]


@pytest.mark.parametrize(
    ("capability", "dtype", "head_dim", "reason"),
    [
        ((7, 5), torch.bfloat16, 64, "needs compute capability 8.0"),
        ((9, 0), torch.float32, 64, "does not compute in float32"),
        ((9, 0), torch.bfloat16, 20, "no heads 20 wide"),
        ((9, 0), torch.bfloat16, 264, "no heads 264 wide"),
    ],
)
def test_what_the_kernel_cannot_do_is_told_at_load(
    capability: tuple[int, int], dtype: torch.dtype, head_dim: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with capture_logs() as logs:
        assert choose_kernels(torch.device("cuda"), dtype, head_dim) is None
    assert reason in logs[0]["reason"]


RECORDS = st.lists(st.tuples(st.integers(1, 46), st.integers(1, 12)), min_size=1, max_size=7)


@settings(max_examples=30, deadline=None)
@given(records=RECORDS)
@torch.inference_mode()
def test_the_bundled_model_is_the_padded_one_whatever_shares_a_batch(
    records: list[tuple[int, int]], tiny_models: tuple[FlatIndependent, PaddedIndependent, LabelTable]
) -> None:
    """Records with lists of labels of their own, from anywhere in the table."""
    flat, padded, table = tiny_models
    texts = [ids_of(tokens, seed) for seed, (tokens, _) in enumerate(records)]
    labels = [count for _, count in records]
    index = np.concatenate([(np.arange(count) * 7 + place) % 40 for place, count in enumerate(labels)])
    got = flat.score(texts, labels, index, table)
    np.testing.assert_allclose(got, padded.score(texts, labels, index, table), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_labels_are_encoded_alike(
    tiny_models: tuple[FlatIndependent, PaddedIndependent, LabelTable],
) -> None:
    flat, padded, _ = tiny_models
    wordings = [ids_of(tokens, tokens) for tokens in (3, 12, 1, 5)]
    np.testing.assert_allclose(flat.encode_labels(wordings), padded.encode_labels(wordings), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def tiny_models(tiny_bundled: Path) -> tuple[FlatIndependent, PaddedIndependent, LabelTable]:
    model: IndependentLabelModel = load_independent(tiny_bundled)
    with torch.inference_mode():
        vectors = torch.randn(40, 32, generator=torch.Generator().manual_seed(1))
        table = LabelTable(vectors, model.queries(vectors.unsqueeze(0))[0])
    flat = FlatIndependent(load_independent(tiny_bundled), slow_varlen(), StagedTransfers(CPU))
    return flat, PaddedIndependent(model, StagedTransfers(CPU)), table


@pytest.mark.parametrize("encoder", ["bert", "modernbert"])
@pytest.mark.parametrize("pooling", ["first", "avg"])
@torch.inference_mode()
def test_uni_encoders_take_indices_in_int32(encoder: str, pooling: str, make_checkpoint: Callable[..., Path]) -> None:
    directory = make_checkpoint(encoder, pooling_strategy=pooling)
    model = load_uniencoder(directory, dtype=torch.float32)
    marker, separator = model.config.class_token_index, model.config.text_token_index
    rows = [
        [1, *([marker, 7, 8] * labels), separator, *ids_of(tokens, tokens)]
        for labels, tokens in ((1, 1), (3, 9), (2, 40), (5, 2))
    ]
    expected = FlatUniEncoder(
        load_uniencoder(directory, dtype=torch.float32), RunKernels(), DirectTransfers(CPU)
    ).score(rows, 5)
    got = FlatUniEncoder(model, slow_varlen(), StagedTransfers(CPU)).score(rows, 5)
    for row, (ours, theirs) in enumerate(zip(got, expected, strict=True)):
        labels = rows[row].count(marker)
        np.testing.assert_allclose(ours[:labels], theirs[:labels], atol=2e-5, rtol=0)


@pytest.fixture(scope="module", params=[3, 4])
def modernbert(request: pytest.FixtureRequest) -> ModernBertModel:
    """With three layers the last one is global, with four it is local."""
    config = ModernBertConfig(
        vocab_size=100,
        hidden_size=24,
        num_hidden_layers=request.param,
        num_attention_heads=3,
        intermediate_size=32,
        max_position_embeddings=64,
        local_attention=8,
        layer_types=["full_attention" if i % 2 == 0 else "sliding_attention" for i in range(request.param)],
        pad_token_id=0,
    )
    config._attn_implementation = "sdpa"
    model = ModernBertModel(config)
    model.train(False)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, 1.5 * weight.shape[-1] ** -0.5, generator=generator)
    return model


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5)), min_size=1, max_size=6))
@torch.inference_mode()
def test_modernbert_with_its_windows_is_the_padded_module(
    rows: list[tuple[int, int]], modernbert: ModernBertModel
) -> None:
    """Wanted are some tokens of each row, of some rows none, and the first of the first row at any rate."""
    texts = [ids_of(tokens, seed) for seed, (tokens, _) in enumerate(rows)]
    picked = [sorted({(i * 11) % len(ids) for i in range(count)}) for ids, (_, count) in zip(texts, rows, strict=True)]
    picked[0] = sorted({0, *picked[0]})
    ids, mask = pad(texts)
    expected = modernbert(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    flat, positions, starts = flat_ids(texts)
    lengths = [len(ids) for ids in texts]
    index = torch.tensor([int(start) + i for start, some in zip(starts, picked, strict=True) for i in some])
    wanted = Wanted(
        index=index.int(),
        positions=torch.tensor([i for some in picked for i in some]),
        batch=flat_batch(lengths, [len(some) for some in picked]),
    )
    words = modernbert.embeddings.tok_embeddings(torch.from_numpy(flat).int())
    got = FlatModernBert(modernbert, slow_varlen()).wanted_states(
        words, torch.from_numpy(positions).int(), flat_batch(lengths, [0] * len(lengths)), wanted
    )
    at = torch.tensor([(row, i) for row, some in enumerate(picked) for i in some])
    torch.testing.assert_close(got, expected[at[:, 0], at[:, 1]], atol=2e-5, rtol=0.0)
