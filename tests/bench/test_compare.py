"""Our engine against gliclass itself, on a checkpoint that gliclass wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from streamer.app import build_classifier
from streamer.bench.compare import by_turns, compare_engines, label
from streamer.bench.reference import EncoderShape, Reference, gliclass_version, save_checkpoint
from streamer.bench.texts import bench_labels, bench_texts, tokens_of
from streamer.settings import ModelSettings

TINY = EncoderShape(layers=2, hidden=32, heads=2, intermediate=48, vocabulary=600)


def test_the_comparison_is_whole_and_the_decisions_are_equal() -> None:
    advanced: list[int] = []
    found = compare_engines(
        version="1",
        shape=TINY,
        model=ModelSettings(device="cpu"),
        own_model=True,
        records=24,
        rounds=2,
        advance=advanced.append,
    )
    assert advanced == [24] * 8, "two rounds of gliclass, our engine, our engine in float32, and the bundled model"
    assert found.ratio == found.streamer_records_per_s / found.gliclass_records_per_s > 0
    assert found.ratio_float32 > 0
    assert found.own_model_records_per_s is not None
    assert found.ratio_own_model == found.own_model_records_per_s / found.gliclass_records_per_s > 0
    assert found.agreement.within_noise == 1.0
    assert found.agreement_float32.same == 1.0
    assert found.agreement_float32.most_apart < 1e-5 + 5e-5, "decided scores are rounded to four decimals"


@pytest.mark.parametrize("kind", ["deberta-v2", "modernbert"])
def test_other_encoders_give_equal_decisions_too(kind: str) -> None:
    shape, model = replace(TINY, kind=kind), ModelSettings(device="cpu", dtype="float32")
    found = compare_engines(
        version="1", shape=shape, model=model, own_model=False, records=24, rounds=1, advance=lambda _: None
    )
    assert found.agreement_float32.same == 1.0
    assert found.agreement_float32.most_apart < 1e-5 + 5e-5, "decided scores are rounded to four decimals"


def test_float32_alone_is_measured_once() -> None:
    advanced: list[int] = []
    model = ModelSettings(device="cpu", dtype="float32")
    found = compare_engines(
        version="1", shape=TINY, model=model, own_model=False, records=8, rounds=1, advance=advanced.append
    )
    assert advanced == [8] * 2
    assert found.ratio == found.ratio_float32
    assert found.ratio_own_model is None


def test_the_checkpoint_tells_texts_and_labels_apart(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, TINY)
    texts, labels = bench_texts(40, seed=1), bench_labels()
    found = Reference(tmp_path, torch.device("cpu")).scores(texts, labels)
    assert [list(by_facet) for by_facet in found] == [[facet.name for facet in labels.facets]] * len(texts)
    topics = torch.tensor([list(by_facet["topic"].values()) for by_facet in found])
    assert topics.std(dim=0).mean() > 0.02, "a label's score must depend on the text"
    assert topics.std(dim=1).mean() > 0.02, "and on the label"


def test_the_checkpoint_reads_each_word_as_a_token_and_fills_its_vocabulary(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, TINY)
    engine = build_classifier(ModelSettings(name=str(tmp_path), device="cpu"), max_tokens="auto")
    try:
        texts = bench_texts(10, seed=1)
        assert len(label(engine, bench_labels(), texts)) == len(texts)
    finally:
        engine.close()
    from streamer.engine.loading import read_tokenizer

    tokenizer = read_tokenizer(tmp_path)
    assert tokenizer.get_vocab_size() == TINY.vocabulary + 3
    for text in texts:
        assert tokenizer.encode(text, add_special_tokens=False).tokens == tokens_of(text)


def test_sides_take_turns_and_the_median_is_told() -> None:
    order: list[str] = []
    ticks = iter([0.0, 1.0, 1.0, 3.0, 0.0, 5.0, 0.0, 4.0, 0.0, 2.0, 0.0, 9.0])
    seconds = by_turns(
        {"a": lambda texts: order.append(f"a{len(texts)}"), "b": lambda texts: order.append(f"b{len(texts)}")},
        records=20,
        rounds=3,
        advance=lambda rows: None,
        clock=lambda: next(ticks),
    )
    assert order == ["a16", "b16"] + ["a20", "b20"] * 3
    assert seconds == {"a": 2.0, "b": 4.0}


def test_the_installed_version_is_known() -> None:
    assert gliclass_version() == "0.1.21"


def test_seeding_the_weights_leaves_torch_as_it_was(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    save_checkpoint(tmp_path, TINY)
    assert torch.equal(torch.random.get_rng_state(), before)
