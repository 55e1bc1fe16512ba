"""What a GLiClass checkpoint says of itself, and the refusal of everything this engine does not compute.

Enters: a parsed config.json as gliclass writes it. Leaves: a `UniEncoderConfig`, or a UsageError that names the
key. A value is never guessed: a wrong head would still produce plausible scores.

Must not know: weights, tokenizers, label sets, Kafka.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PretrainedConfig
from transformers.activations import ACT2FN

from streamer.errors import UsageError

ENCODERS: Final = ("bert", "modernbert", "deberta-v2")

# key -> (gliclass's default, values implemented)
_IMPLEMENTED: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "architecture_type": ("uni-encoder", ("uni-encoder",)),
    "scorer_type": ("simple", ("simple", "mlp", "cross-attn")),
    "pooling_strategy": ("first", ("first", "avg", "pass")),
    "class_token_pooling": ("first", ("first", "average")),
    "use_lstm": (False, (False,)),
    "squeeze_layers": (False, (False,)),
    "layer_wise": (False, (False,)),
    "encoder_layer_id": (-1, (-1,)),
    "use_segment_embeddings": (False, (True, False)),
    "use_calibrator": (False, (False,)),
    "multimodal": (False, (False,)),
    "embed_class_token": (True, (True, False)),
    "extract_text_features": (False, (True, False)),
    "normalize_features": (False, (True, False)),
    "prompt_first": (False, (True, False)),
    "is_encoder_decoder": (False, (False,)),
}
_READ: Final = frozenset(
    {
        *("encoder_config", "hidden_size", "vocab_size", "class_token_index", "text_token_index"),
        *("example_token_index", "projector_hidden_act", "scorer_num_heads", "scorer_mlp_hidden_size"),
    }
)
# encoder_config key -> (transformers' default, values implemented)
_ENCODER_IMPLEMENTED: Final[dict[str, dict[str, tuple[Any, tuple[Any, ...]]]]] = {
    "bert": {"position_embedding_type": ("absolute", ("absolute",))},
    "modernbert": {},
    # DeBERTa-v3 and mDeBERTa-v3; the others stand for DeBERTa-v2's and for what was never published
    "deberta-v2": {
        "relative_attention": (False, (True,)),
        "pos_att_type": (None, (["p2c", "c2p"], ["c2p", "p2c"], "p2c|c2p", "c2p|p2c")),
        "share_att_key": (False, (True,)),
        "position_biased_input": (True, (False,)),
        "type_vocab_size": (0, (0,)),
        "conv_kernel_size": (0, (0,)),
        "norm_rel_ebd": ("none", ("none", "layer_norm")),
    },
}
_DECODER_ONLY: Final = {"is_decoder": (False, (False,)), "add_cross_attention": (False, (False,))}
# Known to gliclass, and without effect on the scores of a uni-encoder in evaluation mode: training, other
# architectures, allocation, and names.
_WITHOUT_EFFECT: Final = frozenset(
    {
        *("model_type", "encoder_model", "encoder_model_name", "label_model_config", "label_model_name", "dropout"),
        *("ignore_index", "pad_token_id", "initializer_range", "logit_scale_init_value"),
        *("problem_type", "max_num_classes", "max_labels_alloc", "contrastive_loss_coef", "freeze_media_encoders"),
        *("focal_loss_alpha", "focal_loss_gamma", "focal_loss_reduction", "use_embedding_projection"),
        *("scorer_attn_dropout", "scorer_encoder_num_layers"),
        *("scorer_full_sequence", "recurrent_steps", "recurrent_min_steps", "recurrent_inference"),
        *("recurrent_inference_max_steps", "recurrent_halt_threshold", "recurrent_improvement_coef"),
        *("recurrent_improvement_margin", "recurrent_bptt_steps", "recurrent_read_text", "recurrent_confidence_coef"),
        *("recurrent_confidence_mode", "recurrent_confidence_margin", "calibrator_hidden_size", "calibrator_beta_max"),
        *("calibrator_dropout", "calibrator_use_bias", "torch_dtype", "transformers_version"),
    }
)


@dataclass(frozen=True, slots=True)
class UniEncoderConfig:
    """Shape of a GLiClass uni-encoder; names follow gliclass's config.json.

    `encoder` is the transformers config of the encoder, its vocabulary grown to the checkpoint's.
    `projector_size` is the hidden width of both projectors. `example_token_index` is -1 where nothing reads it.
    `scorer_num_heads` and `scorer_mlp_hidden_size` are those of the scorer `cross-attn`.
    """

    encoder: PretrainedConfig
    projector_size: int
    class_token_index: int
    text_token_index: int
    example_token_index: int
    scorer_type: str
    scorer_num_heads: int
    scorer_mlp_hidden_size: int
    pooling_strategy: str
    class_token_pooling: str
    projector_hidden_act: str
    embed_class_token: bool
    extract_text_features: bool
    normalize_features: bool
    prompt_first: bool
    use_segment_embeddings: bool

    @property
    def window_tokens(self) -> int | None:
        """Positions the encoder has for one sequence, labels and special tokens included; None: no bound.

        DeBERTa only knows distances, those beyond its last bucket as one; its max_position_embeddings (512) is the
        length it was pre-trained at. gliclass trains and asks it at 1,024, and so much of a label set would not fit.
        """
        return None if self.encoder.model_type == "deberta-v2" else int(self.encoder.max_position_embeddings)


def uniencoder_config(config: dict[str, Any], path: Path) -> UniEncoderConfig:
    """Read gliclass's config; `path` is where it came from, for the message.

    Raises UsageError naming the key and value that is not implemented, unknown or missing.
    """
    chosen = {key: _chosen(config, key, path) for key in _IMPLEMENTED}
    _refuse_unknown(config, path)
    encoder = _encoder_config(config, path)
    activation = config.get("projector_hidden_act", "gelu")
    if activation not in ACT2FN:
        raise UsageError(f"{path}: projector_hidden_act '{activation}' is not implemented")
    projector_size = _whole(config, "hidden_size", path, default=encoder.hidden_size)
    scorer, heads = chosen["scorer_type"], _whole(config, "scorer_num_heads", path, default=16)
    _check_scorer(scorer, chosen["pooling_strategy"], projector_size, heads, encoder.hidden_size, path)
    segments = chosen["use_segment_embeddings"]
    return UniEncoderConfig(
        encoder=encoder,
        projector_size=projector_size,
        class_token_index=_whole(config, "class_token_index", path),
        text_token_index=_whole(config, "text_token_index", path),
        example_token_index=_whole(config, "example_token_index", path) if segments else -1,
        scorer_num_heads=heads,
        scorer_mlp_hidden_size=_whole(config, "scorer_mlp_hidden_size", path, default=1024),
        projector_hidden_act=activation,
        **{name: chosen[name] for name in chosen if name in UniEncoderConfig.__dataclass_fields__},
    )


def _check_scorer(scorer: str, pooling: str, size: int, heads: int, hidden: int, path: Path) -> None:
    """Combinations that gliclass itself cannot run."""
    if (pooling == "pass") != (scorer == "cross-attn"):
        raise UsageError(
            f"{path}: pooling_strategy '{pooling}' is not implemented with scorer_type '{scorer}'"
            " ('pass' goes with 'cross-attn' alone)"
        )
    if scorer != "simple" and size != hidden:
        raise UsageError(f"{path}: scorer_type '{scorer}' needs hidden_size ({size}) equal to the encoder's ({hidden})")
    if scorer == "cross-attn" and (heads < 1 or size % heads):
        raise UsageError(f"{path}: scorer_num_heads {heads} does not divide hidden_size {size}")


def _chosen(config: dict[str, Any], key: str, path: Path) -> Any:
    return _implemented(config, key, _IMPLEMENTED[key], key, path)


def _implemented(config: dict[str, Any], key: str, known: tuple[Any, tuple[Any, ...]], shown: str, path: Path) -> Any:
    """The value of `key`, `shown` in the message; `known` is its default and the values implemented."""
    default, implemented = known
    value = config.get(key, default)
    # True == 1 in Python, and a 1 where a flag belongs is a value nobody has defined
    if not any(value == one and type(value) is type(one) for one in implemented):
        raise UsageError(
            f"{path}: {shown} {value!r} is not implemented (implemented: {', '.join(map(repr, implemented))});"
            " choose another model"
        )
    return value


def _refuse_unknown(config: dict[str, Any], path: Path) -> None:
    """A key nobody here has heard of may change the scores; one that is switched off does not."""
    known = _IMPLEMENTED.keys() | _READ | _WITHOUT_EFFECT | PretrainedConfig().to_dict().keys()
    for key in sorted(config.keys() - known):
        if config[key]:
            raise UsageError(f"{path}: {key} is unknown to this engine and may change the scores; choose another model")


def _whole(config: dict[str, Any], key: str, path: Path, default: int | None = None) -> int:
    value = config.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UsageError(f"{path}: {key} must be a whole number, not {value!r}")
    return value


def _encoder_config(config: dict[str, Any], path: Path) -> PretrainedConfig:
    raw = config.get("encoder_config")
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: encoder_config is missing; it says what the encoder is")
    kind = raw.get("model_type", "deberta-v2")  # as gliclass reads it
    if kind not in ENCODERS:
        raise UsageError(
            f"{path}: encoder_config.model_type '{kind}' is not implemented (implemented: {', '.join(ENCODERS)})"
        )
    for key, known in (_DECODER_ONLY | _ENCODER_IMPLEMENTED[kind]).items():
        _implemented(raw, key, known, f"encoder_config.{key}", path)
    try:
        encoder = AutoConfig.for_model(**raw | {"model_type": kind})
    except (StrictDataclassError, TypeError, ValueError, KeyError) as error:
        raise UsageError(f"{path}: encoder_config is not valid: {' '.join(str(error).split())}") from None
    if kind == "deberta-v2":
        _check_widths(encoder, path)
    encoder.vocab_size = _whole(config, "vocab_size", path, default=encoder.vocab_size)
    return encoder


def _check_widths(encoder: PretrainedConfig, path: Path) -> None:
    """DeBERTa-v2 can have widths of its own for embeddings and heads; no GLiClass checkpoint does."""
    usual = {
        "embedding_size": encoder.hidden_size,
        "attention_head_size": encoder.hidden_size // encoder.num_attention_heads,
    }
    for key, width in usual.items():
        found = getattr(encoder, key, width)
        if found != width:
            raise UsageError(f"{path}: encoder_config.{key} {found!r} is not implemented (implemented: {width})")
