"""gliclass itself, and a checkpoint for it: what our engine is compared with.

Enters: texts and a label set. Leaves: a checkpoint in gliclass's own format, and the pipeline's scores. The weights
are random: time does not depend on them, and nothing has to be downloaded. gliclass comes with the extra `bench`.
Must not know: our engine, Kafka.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from streamer.bench.texts import bench_vocabulary
from streamer.facets import Kind, LabelSet

MARKERS = ("<<LABEL>>", "<<SEP>>", "<<EXAMPLE>>")


def gliclass_version() -> str | None:
    """The installed version, or None."""
    try:
        return version("gliclass")
    except PackageNotFoundError:
        return None


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """Size of an encoder: BERT, or by `kind` "modernbert" or "deberta-v2" (DeBERTa-v3)."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int
    kind: str = "bert"


MINILM_L6 = EncoderShape(layers=6, hidden=384, heads=12, intermediate=1536, vocabulary=30_522)
DEBERTA_V3_SMALL = EncoderShape(layers=6, hidden=768, heads=12, intermediate=3072, vocabulary=30_522, kind="deberta-v2")
_KNOWN = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_KINDS: dict[str, dict[str, Any]] = {
    "bert": {},
    "modernbert": {
        # its own defaults lie beyond a vocabulary as small as this one may be
        **dict.fromkeys(("bos_token_id", "cls_token_id"), _KNOWN.index("[CLS]")),
        **dict.fromkeys(("eos_token_id", "sep_token_id"), _KNOWN.index("[SEP]")),
        "pad_token_id": _KNOWN.index("[PAD]"),
    },
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 256,
        "pos_att_type": "p2c|c2p",
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "type_vocab_size": 0,
        "layer_norm_eps": 1e-7,
    },
}


def save_checkpoint(directory: Path, shape: EncoderShape) -> None:
    """Write a uni-encoder with seeded random weights, and a tokenizer that knows the benchmark's words."""
    from gliclass import GLiClassModel, GLiClassModelConfig
    from transformers import PreTrainedTokenizerFast

    ends = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=_tokenizer(shape.vocabulary), **ends
    )
    tokenizer.add_tokens(list(MARKERS), special_tokens=True)
    label, sep, example = (tokenizer.convert_tokens_to_ids(marker) for marker in MARKERS)
    encoder = {
        "model_type": shape.kind,
        "vocab_size": len(tokenizer),
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": 512,
        **_KINDS[shape.kind],
    }
    config = GLiClassModelConfig(
        encoder_config=encoder,
        encoder_model="random",
        vocab_size=len(tokenizer),
        class_token_index=label,
        text_token_index=sep,
        example_token_index=example,
        prompt_first=True,
        normalize_features=True,
        logit_scale_init_value=20.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = GLiClassModel(config)
        for name, weights in model.named_parameters():
            if weights.dim() > 1:
                torch.nn.init.normal_(weights, std=_spread(name, weights.shape[-1]))
    with _quiet_transformers():
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)


def _spread(name: str, inputs: int) -> float:
    """Standard deviation of a weight: activations keep their size, and attention is sharp enough to tell texts and
    labels apart (as gliclass begins its training, every score would be a half)."""
    if "embeddings" in name:
        return 1.0
    sharpness = 2.0 if ".query" in name or ".key" in name else 1.0
    return float(sharpness * inputs**-0.5)


def _tokenizer(size: int) -> Tokenizer:
    """BERT's kind: lower-cased words, or their letters; unused tokens fill it up to `size`."""
    known = [*_KNOWN, *bench_vocabulary()]
    known += [f"[unused{i}]" for i in range(size - len(known))]
    ids = {token: i for i, token in enumerate(known)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(_KNOWN))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, ids[name]) for name in ("[CLS]", "[SEP]")]
    )
    return tokenizer


class Reference:
    """gliclass's ZeroShotClassificationPipeline at its defaults: float32, batches of 8. One call for each facet."""

    def __init__(self, directory: Path, device: torch.device) -> None:
        from gliclass import GLiClassModel, ZeroShotClassificationPipeline

        with _quiet_transformers():
            model = GLiClassModel.from_pretrained(directory, use_safetensors=True)
            self._pipeline = ZeroShotClassificationPipeline(model, str(directory), device=device, progress_bar=False)

    def label(self, texts: Sequence[str], label_set: LabelSet) -> None:
        """What its users wait for: labels of each text, with their scores. The answer is thrown away."""
        self._ask(texts, label_set)

    def scores(self, texts: Sequence[str], label_set: LabelSet) -> list[dict[str, dict[str, float]]]:
        """For each text: facet -> label -> score, of all labels."""
        by_facet = self._ask(texts, label_set, return_hierarchical=True)
        return [dict(zip(by_facet, found, strict=True)) for found in zip(*by_facet.values(), strict=True)]

    def _ask(self, texts: Sequence[str], label_set: LabelSet, **options: Any) -> dict[str, Any]:
        kinds = {Kind.SINGLE: "single-label", Kind.MULTI: "multi-label"}
        with _quiet_transformers():
            return {
                facet.name: self._pipeline(
                    list(texts),
                    [label.wording for label in facet.labels],
                    threshold=facet.threshold,
                    classification_type=kinds[facet.kind],
                    **options,
                )
                for facet in label_set.facets
            }


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Its notes on gliclass's own calls, and its progress bars, would stand between ours."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
