"""From a name or directory to a model in memory: safetensors only, unknown architectures refused by name.

Libraries that the bundled model does without are imported where they are needed. Must not know: label sets, batching,
Kafka.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from streamer.engine.independent import ARCHITECTURE, IndependentConfig, IndependentLabelModel
from streamer.errors import UsageError

if TYPE_CHECKING:
    from streamer.engine.model import UniEncoder

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
WEIGHTS_INDEX = f"{WEIGHTS}.index.json"

_CONVERT = "GLiClassModel.from_pretrained(MODEL).save_pretrained(DIRECTORY)"

# Stored with some checkpoints and never read by GLiClass: BERT's own pooler, and buffers that are constants.
_UNREAD_WEIGHTS = (
    "encoder_model.pooler.",
    "encoder_model.embeddings.position_ids",
    "encoder_model.embeddings.token_type_ids",
)


def resolve_model(name: str, *, revision: str | None, cache_dir: Path | None) -> Path:
    """The directory of a model: `name` is one, or the id of a model on the Hugging Face Hub.

    From the Hub come config, tokenizer and safetensors, never pickle; a cached copy serves when the Hub is out of
    reach. `revision` (branch, tag or commit; None: the default branch) applies to the Hub alone, `cache_dir` None
    means the Hub's usual cache. Raises UsageError where neither a directory nor a Hub model is found.
    """
    directory = Path(name).expanduser()
    if directory.is_dir():
        return directory
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    wanted = f"model '{name}'" + (f" at revision '{revision}'" if revision else "")
    try:
        fetched = snapshot_download(
            name,
            revision=revision,
            cache_dir=cache_dir,
            allow_patterns=[CONFIG, TOKENIZER, "*.safetensors", WEIGHTS_INDEX],
        )
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise UsageError(
            f"{wanted} is neither a directory nor on the Hugging Face Hub;"
            " check the spelling, and the access rights where the model is private"
        ) from None
    except ValueError:  # the name cannot be an id
        raise UsageError(f"{wanted} is neither a directory nor the id of a Hugging Face model") from None
    except Exception as error:  # whatever the Hub's client raises on a missing or broken network
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(
            f"{wanted} is not a directory and cannot be had from the Hugging Face Hub ({reason});"
            " check the network or give a directory"
        ) from None
    return Path(fetched)


def read_config(directory: Path) -> dict[str, Any]:
    """The parsed config.json; raises UsageError where it is missing or no JSON object."""
    return _read_json(directory / CONFIG)


def read_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer of tokenizer.json; raises UsageError where it is missing or broken."""
    path = directory / TOKENIZER
    if not path.is_file():
        raise UsageError(f"{path}: not found; save the model's fast tokenizer there (slow tokenizers are not read)")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise UsageError(f"{path}: not a tokenizer ({error})") from None


def weights_revision(directory: Path) -> str:
    """First 12 hex digits of the SHA-256 of the weights: what an event is stamped with."""
    digest = hashlib.sha256()
    for path in _weight_files(directory):
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:12]


def load_independent(directory: Path) -> IndependentLabelModel:
    """Load a model of the bundled architecture in float32, in evaluation mode."""
    config = read_config(directory)
    if config.get("architecture_type") != ARCHITECTURE:
        raise UsageError(f"{directory / CONFIG}: architecture_type is not '{ARCHITECTURE}'")
    with torch.device("meta"):  # random weights would be drawn for nothing
        model = IndependentLabelModel(
            IndependentConfig(**{key: config[key] for key in IndependentConfig.__dataclass_fields__})
        )
    weights = load_file(directory / WEIGHTS)
    # copied where they are in float32 already, since what safetensors returns is mapped from the file, unaligned
    model.load_state_dict({name: value.to(torch.float32, copy=True) for name, value in weights.items()}, assign=True)
    return model.eval()


def save_independent(model: IndependentLabelModel, directory: Path, *, tokenizer: str, dtype: torch.dtype) -> None:
    """Write config, weights and tokenizer; `tokenizer` is the text of a tokenizer.json."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {"architecture_type": ARCHITECTURE, **asdict(model.config)}
    (directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (directory / TOKENIZER).write_text(tokenizer, encoding="utf-8")
    weights = {name: value.detach().to("cpu", dtype).contiguous() for name, value in model.state_dict().items()}
    save_file(weights, directory / WEIGHTS, metadata={"format": "pt"})


def save_tuned(model: nn.Module, start: Path, directory: Path) -> None:
    """Write a model that was loaded from `start` and then trained.

    Config and tokenizer are those of `start`; so are the names and dtypes of its weights, and those that no model here
    reads. Whatever else can read `start` (gliclass, for a checkpoint of its kind) therefore reads this too.
    """
    trained = model.state_dict()
    weights: dict[str, Tensor] = {}
    for path in _weight_files(start):
        weights |= load_file(path)
    for name, stored in weights.items():
        value = trained.get(name.removeprefix("model."))
        # copied either way: what safetensors returns is mapped from a file that may be the one written
        weights[name] = (stored if value is None else value.detach()).to("cpu", stored.dtype, copy=True).contiguous()
    directory.mkdir(parents=True, exist_ok=True)
    for file in (CONFIG, TOKENIZER):
        (directory / file).write_bytes((start / file).read_bytes())
    save_file(weights, directory / WEIGHTS, metadata={"format": "pt"})


def load_uniencoder(directory: Path, *, dtype: torch.dtype) -> UniEncoder:
    """Load a GLiClass uni-encoder on the CPU in evaluation mode: encoder in `dtype`, head in float32.

    Raises UsageError, naming the file, for whatever the config asks for that is not implemented, and for weights
    that are missing, left over, of another shape, or not stored as safetensors.
    """
    from transformers.initialization import no_init_weights

    from streamer.engine.gliclass_config import uniencoder_config
    from streamer.engine.model import UniEncoder

    config = uniencoder_config(read_config(directory), directory / CONFIG)
    with no_init_weights():  # random weights for a model of 150M parameters would take half a minute
        model = UniEncoder(config)
    weights = _read_weights(directory)
    _check_weights(weights, model.state_dict(), directory)
    # Assigned one by one, since casting the model as a whole would round its rotary frequencies; and copied, since
    # what safetensors returns is mapped from the file, unaligned.
    for name, value in weights.items():
        in_encoder = name.startswith(("encoder_model.", "segment_embeddings."))
        weights[name] = value.to(dtype if in_encoder else torch.float32, copy=True)
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(False).eval()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(f"{path}: not found; a model directory holds {CONFIG}, {WEIGHTS} and {TOKENIZER}") from None
    except ValueError as error:
        raise UsageError(f"{path}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path}: a JSON object is needed")
    return value


def _weight_files(directory: Path) -> list[Path]:
    """The file that holds the weights, or the shards that its index names."""
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    index = directory / WEIGHTS_INDEX
    if not index.is_file():
        raise UsageError(
            f"{directory}: no {WEIGHTS}; weights stored as pickle (pytorch_model.bin) are never loaded. Where you trust"
            f" them, convert them once with gliclass: {_CONVERT}; then copy {TOKENIZER} there"
        )
    shards = _read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise UsageError(f"{index}: weight_map must name a file for each weight")
    files = [directory / name for name in sorted(set(shards.values()))]
    for path in files:
        if path.parent != directory or not path.is_file():
            raise UsageError(f"{index}: names {path.name}, which is not in {directory}")
    return files


def _read_weights(directory: Path) -> dict[str, Tensor]:
    """Weights by their name in our model."""
    weights: dict[str, Tensor] = {}
    for path in _weight_files(directory):
        try:
            weights |= load_file(path)
        except SafetensorError as error:
            raise UsageError(f"{path}: not readable as safetensors ({error})") from None
    renamed = {name.removeprefix("model."): value for name, value in weights.items()}
    return {name: value for name, value in renamed.items() if not name.startswith(_UNREAD_WEIGHTS)}


def _check_weights(stored: dict[str, Tensor], needed: dict[str, Tensor], directory: Path) -> None:
    shapes = {name for name in stored.keys() & needed.keys() if stored[name].shape != needed[name].shape}
    wrong = (
        ("missing", needed.keys() - stored.keys()),
        ("unknown", stored.keys() - needed.keys()),
        ("of another shape", shapes),
    )
    for what, names in wrong:
        if names:
            shown = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise UsageError(f"{directory}: the weights do not fit {CONFIG}: {what}: {shown}")
