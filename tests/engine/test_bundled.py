"""The bundled model as a backend: held to the model itself, called on one record at a time."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamer.engine.base import Row
from streamer.engine.bundled import BundledBackend
from streamer.engine.loading import load_independent, read_tokenizer, weights_revision
from streamer.errors import UsageError
from streamer.facets import Facet, InContextExample, Kind, Label, LabelSet
from streamer.records import Document
from tests.engine.slow_kernels import KINDS

MOST = 47  # text positions of the tiny model


def make(directory: Path, dtype: torch.dtype = torch.float32, *, kind: str = "flat") -> BundledBackend:
    cpu = torch.device("cpu")
    return BundledBackend(directory=directory, name="tiny", device=cpu, dtype=dtype, choose_kernels=KINDS[kind])


@pytest.fixture(scope="module", params=KINDS)
def backend(request: pytest.FixtureRequest, tiny_bundled: Path) -> BundledBackend:
    made = make(tiny_bundled, kind=request.param)
    assert made.pads is (request.param == "padded")
    return made


def label_set(*names: str) -> LabelSet:
    return LabelSet("set", (Facet("facet", Kind.MULTI, tuple(Label(name) for name in names)),))


CASE = LabelSet(
    "case",
    (
        Facet("topic", Kind.MULTI, (Label("bill", "money"), Label("outage"))),
        Facet("event", Kind.SINGLE, (Label("question"), Label("complaint"), Label("praise"))),
    ),
)


def rows_of(backend: BundledBackend, documents: Sequence[Document]) -> list[Row]:
    for document in documents:
        backend.prepare(document.label_set)
    return backend.rows(documents)


def test_all_facets_are_one_row_that_costs_text_and_labels(backend: BundledBackend) -> None:
    rows = rows_of(backend, [Document("ab c", CASE), Document("", label_set("x"))])
    assert [(r.document, r.first_label, r.labels) for r in rows] == [(0, 0, 5), (1, 0, 1)]
    assert [(r.text_tokens, r.cost_tokens) for r in rows] == [(5, 10), (2, 3)]


def test_forward_is_the_model_called_on_one_record_at_a_time(backend: BundledBackend, tiny_bundled: Path) -> None:
    model, tokenizer = load_independent(tiny_bundled), read_tokenizer(tiny_bundled)

    def ids(text: str) -> Tensor:
        return torch.tensor([tokenizer.encode(text).ids])

    documents = [Document("hello", CASE), Document("a much longer text", label_set("x")), Document("mid one", CASE)]
    rows = rows_of(backend, documents)
    logits = backend.forward(rows)
    assert logits.dtype == np.float32
    assert logits.shape == (3, 5)
    with torch.inference_mode():
        for document, got in zip(documents, logits, strict=True):
            wordings = [ids(label.wording) for label in document.label_set.labels]
            vectors = torch.cat([model.encode_labels(w, torch.ones_like(w, dtype=torch.bool)) for w in wordings])
            text = ids(document.text)
            expected = model(text, torch.ones_like(text, dtype=torch.bool), vectors.unsqueeze(0))[0]
            np.testing.assert_allclose(got[: len(vectors)], expected.numpy(), atol=1e-5, rtol=0)


def test_control_tokens_in_a_text_are_mere_letters(backend: BundledBackend, tiny_bundled: Path) -> None:
    tokenizer = read_tokenizer(tiny_bundled)
    special = {tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]")}
    (row,) = rows_of(backend, [Document("x [SEP][CLS] [PAD] [MASK][UNK] y", CASE)])
    assert special.isdisjoint(row.ids[1:-1])
    assert row.ids[0] == tokenizer.token_to_id("[CLS]")
    assert row.ids[-1] == tokenizer.token_to_id("[SEP]")
    labels = label_set("[SEP] a")
    backend.prepare(labels)  # nor do they end a label
    assert np.isfinite(backend.forward(rows_of(backend, [Document("x", labels)]))).all()


@pytest.mark.parametrize(
    ("text", "tokens", "truncated"),
    [
        ("ab " * 22 + "x", MOST, False),  # 45 letters between CLS and SEP: full to the last
        ("ab " * 23, MOST, True),
        ("x" * 200_000, 3, True),  # one word without end: one unknown token, and most of it was never read
        (" " * 200_000 + "x", 2, True),
    ],
)
def test_texts_are_cut_to_the_window_and_say_so(
    backend: BundledBackend, text: str, tokens: int, truncated: bool
) -> None:
    (row,) = rows_of(backend, [Document(text, CASE)])
    assert (row.text_tokens, row.truncated) == (tokens, truncated)
    (short,) = rows_of(backend, [Document("x", CASE)])
    assert row.ids[-1] == short.ids[-1]  # the closing SEP stays
    assert np.isfinite(backend.forward([row])).all()


def test_a_long_wording_is_cut(backend: BundledBackend) -> None:
    """Label wordings have 12 tokens here, CLS and SEP counted."""
    same, other = label_set("abcdefghij" + "k" * 50), label_set("abcdefghij" + "z" * 50)
    rows = rows_of(backend, [Document("text", same), Document("text", other)])
    first, second = backend.forward(rows)
    np.testing.assert_allclose(first, second, atol=1e-5, rtol=0)


def test_a_very_large_label_set_is_scored_in_parts(backend: BundledBackend) -> None:
    names = [f"l{i}" for i in range(2100)]
    rows = rows_of(backend, [Document("some text", label_set(*names))])
    assert [(r.first_label, r.labels) for r in rows] == [(0, 1024), (1024, 1024), (2048, 52)]
    got = np.concatenate([logits[: row.labels] for row, logits in zip(rows, backend.forward(rows), strict=True)])
    probe = [0, 1023, 1024, 2047, 2048, 2099]
    expected = backend.forward(rows_of(backend, [Document("some text", label_set(*(names[i] for i in probe)))]))[0]
    np.testing.assert_allclose(got[probe], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("refused", "what"),
    [
        (LabelSet("tickets", CASE.facets, prompt="think hard"), "takes no prompt"),
        (LabelSet("tickets", CASE.facets, examples=(InContextExample("a", ("bill",)),)), "takes no examples"),
        (LabelSet("tickets", ()), "no labels"),
    ],
)
def test_label_sets_it_cannot_serve_are_refused(backend: BundledBackend, refused: LabelSet, what: str) -> None:
    with pytest.raises(UsageError, match=f"^label set 'tickets': .*{what}") as error:
        backend.prepare(refused)
    assert "\n" not in str(error.value)


def tensor_bytes() -> int:
    """Of all tensors there are."""
    gc.collect()
    storages = {
        one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
        for one in gc.get_objects()
        if issubclass(type(one), Tensor) and not one.is_mkldnn  # packed weights, which are opaque
    }
    return sum(storages.values())


def test_label_sets_that_are_forgotten_leave_nothing_behind(backend: BundledBackend) -> None:
    backend.prepare(CASE)
    rows = backend.rows([Document("some text", CASE)])
    before = backend.forward(rows)
    sizes = []
    for round_ in range(3):
        passing = [label_set(f"a{round_}", f"b{i}", *(f"c{k}" for k in range(40))) for i in range(100)]
        for one in passing:
            backend.prepare(one)
            backend.forward(rows)
        backend.forget([one.scoring_key for one in passing[:50]])
        last = backend.rows([Document("some text", passing[99])])
        alone = label_set("b99")
        backend.prepare(alone)
        expected = backend.forward(backend.rows([Document("some text", alone)]))
        np.testing.assert_allclose(backend.forward(last)[0, 1], expected[0, 0], atol=1e-5, rtol=0)
        backend.forget([one.scoring_key for one in (*passing[50:], alone)])
        sizes.append(tensor_bytes())
    assert sizes[0] == sizes[1] == sizes[2]
    np.testing.assert_allclose(backend.forward(rows), before, atol=1e-5, rtol=0)
    backend.forget([CASE.scoring_key])
    backend.prepare(CASE)
    np.testing.assert_allclose(backend.forward(backend.rows([Document("some text", CASE)])), before, atol=1e-5, rtol=0)


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1.0 / (1.0 + np.exp(-logits)), dtype=np.float32)


def test_bfloat16_is_close_to_float32(backend: BundledBackend, tiny_bundled: Path) -> None:
    """The noise rule: no probability moves by more than .02, and a top label that changes had a margin below that."""
    half = make(tiny_bundled, torch.bfloat16)
    assert half.describe().dtype == "bfloat16"
    documents = [Document(f"text number {i} of this {'long ' * (i % 7)} list", CASE) for i in range(64)]
    exact = probabilities(backend.forward(rows_of(backend, documents)))
    rough = probabilities(half.forward(rows_of(half, documents)))
    assert float(np.abs(exact - rough).max()) <= 0.02
    best = np.sort(exact, axis=1)
    margin = best[:, -1] - best[:, -2]
    flipped = exact.argmax(1) != rough.argmax(1)
    assert (margin[flipped] <= 0.02).all()


def test_describe_is_stamped_with_the_weights(backend: BundledBackend, tiny_bundled: Path) -> None:
    info = backend.describe()
    assert (info.name, info.revision) == ("tiny", weights_revision(tiny_bundled))
    assert (info.device, info.dtype, info.window_tokens) == ("cpu", "float32", MOST)


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "tokenizer.json"])
def test_an_incomplete_directory_is_refused(tiny_bundled: Path, tmp_path: Path, missing: str) -> None:
    broken = tmp_path / "model"
    shutil.copytree(tiny_bundled, broken)
    (broken / missing).unlink()
    with pytest.raises(UsageError, match=missing):
        make(broken)


def test_vectors_of_texts_are_the_models_own_alone_and_in_any_company(
    backend: BundledBackend, tiny_bundled: Path
) -> None:
    model, tokenizer = load_independent(tiny_bundled), read_tokenizer(tiny_bundled)
    texts = ["hello", "", "a much longer text", "b"] + [f"text {n}" for n in range(80)]
    vectors = backend.embed(texts, most_tokens=MOST)
    assert vectors.shape == (84, 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    with torch.inference_mode():
        for text, got in zip(texts[:6], vectors, strict=False):
            ids = torch.tensor([tokenizer.encode(text).ids])
            expected = model.encode_labels(ids, torch.ones_like(ids, dtype=torch.bool))[0].numpy()
            np.testing.assert_allclose(got, expected / np.linalg.norm(expected), atol=1e-5)
    assert backend.embed([], most_tokens=MOST).shape == (0, 32)


def test_of_a_text_no_more_is_embedded_than_was_asked_for(backend: BundledBackend) -> None:
    one, other, whole = backend.embed(["abcdef", "abcxyz", "abc"], most_tokens=5)
    np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(one, whole, atol=1e-5)
    assert backend.embed(["a" * 10_000], most_tokens=100_000).shape == (1, 32)  # as many as there is room for


def test_wordings_longer_than_the_model_reads_are_told(backend: BundledBackend) -> None:
    assert backend.label_tokens == 12
    assert backend.cuts(["a" * 10, "a" * 11, "b"]) == [False, True, False]
