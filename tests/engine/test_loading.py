"""Models come from directories or the Hub, and whatever is not implemented is refused by name."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from streamer.engine.independent import IndependentLabelModel
from streamer.engine.loading import (
    load_independent,
    load_uniencoder,
    read_tokenizer,
    resolve_model,
    save_independent,
    weights_revision,
)
from streamer.engine.uniencoder import UniEncoderBackend
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.records import Document

Checkpoint = Callable[..., Path]
OpenBackend = Callable[..., UniEncoderBackend]
NOWHERE = "http://127.0.0.1:9"
COMMIT = "c0ffee" * 6 + "beef"


@pytest.fixture
def copied(make_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """A checkpoint that the test may spoil."""
    return shutil.copytree(make_checkpoint("bert", scorer_type="mlp"), tmp_path / "model")


def refusal(directory: Path) -> str:
    with pytest.raises(UsageError) as error:
        load_uniencoder(directory, dtype=torch.float32)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_config_must_be_there_json_and_implemented(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"use_lstm": True}))
    assert f"{copied / 'config.json'}: use_lstm True is not implemented" in refusal(copied)
    (copied / "config.json").write_text("[]")
    assert "a JSON object is needed" in refusal(copied)
    (copied / "config.json").write_text("{")
    assert "not JSON" in refusal(copied)
    (copied / "config.json").unlink()
    assert "not found" in refusal(copied)


def test_weights_must_fit_the_config(copied: Path) -> None:
    path = copied / "model.safetensors"
    weights = load_file(path)
    without = {name: value for name, value in weights.items() if not name.startswith("model.text_projector")}
    save_file(without, path)
    assert "missing: text_projector.linear_1.bias, text_projector.linear_1.weight" in refusal(copied)
    save_file({**weights, "model.lstm.weight": torch.zeros(2)}, path)
    assert "unknown: lstm.weight" in refusal(copied)
    save_file(weights | {"model.scorer.mlp.0.bias": torch.zeros(3)}, path)
    assert "of another shape: scorer.mlp.0.bias" in refusal(copied)
    path.write_bytes(b"no tensors")
    assert "not readable as safetensors" in refusal(copied)


def test_pickled_weights_are_refused(copied: Path) -> None:
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    message = refusal(copied)
    assert "pickle (pytorch_model.bin) are never loaded" in message
    assert "GLiClassModel.from_pretrained(MODEL).save_pretrained(DIRECTORY)" in message


def test_pickled_weights_converted_as_the_message_says_are_loaded(copied: Path, tmp_path: Path) -> None:
    from gliclass import GLiClassModel

    before = load_uniencoder(copied, dtype=torch.float32).state_dict()
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    GLiClassModel.from_pretrained(copied).save_pretrained(tmp_path / "converted")
    after = load_uniencoder(tmp_path / "converted", dtype=torch.float32).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_tokenizer_must_be_there_and_whole(copied: Path) -> None:
    (copied / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="not a tokenizer"):
        read_tokenizer(copied)
    (copied / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match="not found"):
        read_tokenizer(copied)


def shard(directory: Path) -> None:
    """Split model.safetensors in three, with an index, as large checkpoints are stored."""
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = sorted(weights)
    files = {name: f"model-0000{1 + index % 3}-of-00003.safetensors" for index, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: weights[name] for name in names if files[name] == file}, directory / file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def test_sharded_weights_give_the_same_logits(copied: Path, open_backend: OpenBackend, one_facet: Any) -> None:
    labels: LabelSet = one_facet(["billing", "outage"])

    def logits() -> Any:
        backend = open_backend(copied)
        return backend.forward(backend.rows([Document("the phone is dead", labels)]))

    before, revision = logits(), weights_revision(copied)
    shard(copied)
    np.testing.assert_array_equal(logits(), before)
    assert weights_revision(copied) != revision
    (copied / "model-00002-of-00003.safetensors").unlink()
    assert "names model-00002-of-00003.safetensors, which is not in" in refusal(copied)


@pytest.mark.parametrize("index", ['{"weight_map": ["a"]}', '{"weight_map": {"a": "../model.safetensors"}}', "{}"])
def test_a_broken_index_is_refused(copied: Path, index: str) -> None:
    (copied / "model.safetensors").rename(copied.parent / "model.safetensors")
    (copied / "model.safetensors.index.json").write_text(index)
    assert "model.safetensors.index.json" in refusal(copied)


def test_the_encoder_takes_the_dtype_given_and_head_and_buffers_stay_float32(make_checkpoint: Checkpoint) -> None:
    model = load_uniencoder(make_checkpoint("modernbert", scorer_type="mlp"), dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert {weight.dtype for weight in model.encoder_model.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in model.scorer.parameters()} == {torch.float32}
    # rotary frequencies in bfloat16 would be off by radians at the far end of a long text
    assert {buffer.dtype for buffer in model.buffers()} == {torch.float32}
    assert not model.training


def test_segment_embeddings_take_the_encoder_dtype(make_checkpoint: Checkpoint) -> None:
    directory = make_checkpoint("deberta-v2", use_segment_embeddings=True)
    model = load_uniencoder(directory, dtype=torch.bfloat16)
    assert model.segment_embeddings.weight.dtype == torch.bfloat16


def test_revision_is_a_digest_of_the_weights(make_checkpoint: Checkpoint, copied: Path) -> None:
    assert weights_revision(copied) == weights_revision(make_checkpoint("bert", scorer_type="mlp"))
    assert weights_revision(copied) != weights_revision(make_checkpoint("bert"))
    assert len(weights_revision(copied)) == 12


def test_the_bundled_architecture_is_saved_and_loaded(
    tiny_bundled: Path, tmp_path: Path, make_checkpoint: Checkpoint
) -> None:
    model = load_independent(tiny_bundled)
    assert isinstance(model, IndependentLabelModel)
    tokenizer = (tiny_bundled / "tokenizer.json").read_text(encoding="utf-8")
    save_independent(model, tmp_path / "copy", tokenizer=tokenizer, dtype=torch.float32)
    assert weights_revision(tmp_path / "copy") == weights_revision(tiny_bundled)
    with pytest.raises(UsageError, match="independent-labels"):
        load_independent(make_checkpoint("bert"))


class Hub(ThreadingHTTPServer):
    """As much of the Hugging Face Hub as a download needs: one model, one commit on `main` and `v2`."""

    def __init__(self, model: Path) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.model = model
        self.fetched: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        files = {file.name: file.read_bytes() for file in self.server.model.iterdir()}
        name = path.rpartition("/")[2]
        if path in ("/api/models/acme/tiny/revision/main", "/api/models/acme/tiny/revision/v2"):
            self.reply(json.dumps({"id": "acme/tiny", "sha": COMMIT, "siblings": []}).encode())
        elif path == f"/api/models/acme/tiny/tree/{COMMIT}":
            tree = [{"type": "file", "path": n, "size": len(data), "oid": f"{n}-1"} for n, data in files.items()]
            self.reply(json.dumps(tree).encode())
        elif path == f"/acme/tiny/resolve/{COMMIT}/{name}" and name in files:
            self.server.fetched.append(name)
            self.reply(files[name], etag=f'"{name}-1"')
        else:
            missing = "RevisionNotFound" if path.startswith("/api/models/acme/tiny/") else "RepoNotFound"
            self.reply(b"{}", 404, error=missing)

    def reply(self, body: bytes, status: int = 200, *, etag: str = '"x"', error: str | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/json", "ETag": etag}
        headers |= {"X-Repo-Commit": COMMIT} | ({"X-Error-Code": error} if error else {})
        for header in headers.items():
            self.send_header(*header)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does for a process that starts with it."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(copied: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that holds the checkpoint `acme/tiny`, pickled weights beside the safe ones."""
    (copied / "pytorch_model.bin").write_bytes(b"pickle")
    server = Hub(copied)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    point_to(server.address, monkeypatch)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_directory_is_taken_as_it_is(copied: Path) -> None:
    assert resolve_model(str(copied), revision=None, cache_dir=None) == copied


@pytest.mark.parametrize("revision", [None, "v2"])
def test_a_hub_model_is_fetched_without_pickle(
    revision: str | None, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    directory = resolve_model("acme/tiny", revision=revision, cache_dir=cache)
    load_uniencoder(directory, dtype=torch.float32)
    read_tokenizer(directory)
    assert set(hub.fetched) == {"config.json", "tokenizer.json", "model.safetensors"}
    point_to(NOWHERE, monkeypatch)
    assert resolve_model("acme/tiny", revision=revision, cache_dir=cache) == directory, "a cached copy serves offline"


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("acme/none", None, "model 'acme/none' is neither a directory nor on the Hugging Face Hub"),
        ("acme/tiny", "v9", "model 'acme/tiny' at revision 'v9' is neither a directory nor on the Hugging Face Hub"),
        ("./models/none", None, "model './models/none' is neither a directory nor the id of a Hugging Face model"),
    ],
)
def test_a_name_that_nothing_answers_to(
    name: str, revision: str | None, message: str, hub: Hub, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as error:
        resolve_model(name, revision=revision, cache_dir=tmp_path / "cache")
    assert str(error.value).startswith(message)


def test_without_a_network_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(NOWHERE, monkeypatch)
    with pytest.raises(UsageError, match="is not a directory and cannot be had from the Hugging Face Hub") as error:
        resolve_model("acme/tiny", revision=None, cache_dir=tmp_path)
    assert "\n" not in str(error.value)
