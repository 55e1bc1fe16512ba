"""Fine-tune the independent-label model on a mixture of sources.

Enters: sources of examples, a start (a BERT encoder or a model of this architecture). Leaves: a model directory.
Recipe: AdamW, short warm-up, linear decay; focal binary cross-entropy over the labels shown plus a share of
softmax cross-entropy where exactly one holds; few labels per example first, more later.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

from streamer.engine.bert import Bert
from streamer.engine.independent import ARCHITECTURE, IndependentConfig, IndependentLabelModel
from streamer.engine.loading import CONFIG, TOKENIZER, WEIGHTS, load_independent, read_config, save_independent
from streamer.engine.padding import pad
from streamer.errors import UsageError
from streamer.tuning.recipe import Example, Source, draw_examples


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Everything that decides a training run, beside the data.

    Rates are AdamW's; `text_tokens` and `label_tokens` are where texts and label wordings are cut, CLS and SEP
    counted; `window` examples are sorted by length and cut into batches of `batch`. The learning rate decays over
    `steps`; the run ends after `stop_after` of them.
    """

    steps: int
    stop_after: int
    seed: int
    batch: int = 32
    window: int = 128
    encoder_rate: float = 1e-4
    head_rate: float = 3e-4
    warm_up_steps: int = 100
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    text_tokens: int = 96
    label_tokens: int = 24
    fewest_labels: int = 3
    most_labels: int = 16
    focal_gamma: float = 1.5
    softmax_share: float = 0.3
    checkpoint_steps: int = 500


Progress = Callable[[int, float], None]  # (steps done, mean loss since the last call)


def start_model(directory: Path) -> IndependentLabelModel:
    """A fresh model around a BERT encoder's weights, or one of this architecture to train further."""
    config = read_config(directory)
    if config.get("architecture_type") == ARCHITECTURE:
        return load_independent(directory)
    if config.get("model_type") != "bert":
        raise UsageError(f"{directory / CONFIG}: model_type '{config.get('model_type')}' cannot be trained; 'bert' can")
    model = IndependentLabelModel(
        IndependentConfig(
            encoder=config,
            query_position=int(config["max_position_embeddings"]) - 1,
            label_tokens=64,
            scorer_hidden=256,
        )
    )
    weights = {key.removeprefix("bert."): value for key, value in load_file(directory / WEIGHTS).items()}
    missing, _ = model.encoder.load_state_dict(weights, strict=False)
    if missing:
        raise UsageError(f"{directory / WEIGHTS}: lacks {len(missing)} weights of a BERT encoder, e.g. {missing[0]}")
    return model


def draw_batches(sources: Sequence[Source], settings: TrainSettings) -> Iterator[list[Example]]:
    """Batches without end, decided by the seed alone: texts of about equal length in each.

    The number of labels grows over the first half of the run.
    """
    random, step = Random(settings.seed), 0
    while True:
        grown = min(1.0, 2.0 * step / settings.steps)
        most = round(settings.fewest_labels + grown * (settings.most_labels - settings.fewest_labels))
        drawn = draw_examples(sources, random, settings.window, most)
        drawn.sort(key=lambda example: len(example.text))
        batches = [drawn[i : i + settings.batch] for i in range(0, len(drawn), settings.batch)]
        random.shuffle(batches)
        while batches:
            yield batches.pop()
            step += 1


def token_ids(tokenizer: Tokenizer, texts: Sequence[str], most: int) -> list[list[int]]:
    """Token ids, cut to `most`, the closing SEP kept."""
    encoded = tokenizer.encode_batch_fast([text[: 16 * most] for text in texts])
    return [e.ids if len(e.ids) <= most else e.ids[: most - 1] + e.ids[-1:] for e in encoded]


class Descent:
    """Walks a model down its loss by the rates of a TrainSettings. What of it is not the encoder are heads."""

    def __init__(self, model: nn.Module, encoder: Bert, settings: TrainSettings) -> None:
        self._model = model
        self._settings = settings
        # word vectors stay as pre-trained: words the mixture lacks keep their place beside those it has, and a
        # dense gradient of the whole vocabulary is a quarter of a step's time on a CPU
        encoder.embeddings.word_embeddings.requires_grad_(False)
        owned = {id(p) for p in encoder.parameters()}
        groups = [
            {"params": [p for p in encoder.parameters() if p.requires_grad], "lr": settings.encoder_rate},
            {"params": [p for p in model.parameters() if id(p) not in owned], "lr": settings.head_rate},
        ]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, self._rate)

    def _rate(self, step: int) -> float:
        """Linear warm-up, then linear decay to 2 %."""
        settings = self._settings
        if step < settings.warm_up_steps:
            return (step + 1) / settings.warm_up_steps
        done = (step - settings.warm_up_steps) / max(1, settings.steps - settings.warm_up_steps)
        return max(0.02, 1.0 - 0.98 * done)

    def step(self, loss: Tensor) -> float:
        """One step down; returns the loss as it was."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._settings.clip_norm)
        self._optimizer.step()
        self._schedule.step()
        return float(loss.detach())


class Trainer:
    """Owns model, optimizer and sampler for one run."""

    def __init__(
        self, *, start: Path, sources: Sequence[Source], settings: TrainSettings, device: str, out: Path
    ) -> None:
        torch.manual_seed(settings.seed)
        self._settings = settings
        self._batches = draw_batches(sources, settings)
        self._device = torch.device(device)
        self._out = out
        self._tokenizer_json = (start / TOKENIZER).read_text(encoding="utf-8")
        self._tokenizer: Tokenizer = Tokenizer.from_str(self._tokenizer_json)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        # no dropout: a run sees most texts once, and the encoder is already well pre-trained
        self.model = start_model(start).to(self._device).eval()
        self._descent = Descent(self.model, self.model.encoder, settings)

    def run(self, progress: Progress) -> None:
        """Train for the set number of steps, then save half-precision weights."""
        settings = self._settings
        loss_sum, since = 0.0, 0
        for step in range(settings.stop_after):
            loss_sum += self._step(next(self._batches))
            since += 1
            if (step + 1) % 20 == 0 or step + 1 == settings.stop_after:
                progress(step + 1, loss_sum / since)
                loss_sum, since = 0.0, 0
            if (step + 1) % settings.checkpoint_steps == 0:
                self._save(step + 1)
        self._save(settings.stop_after)

    def _step(self, batch: Sequence[Example]) -> float:
        settings = self._settings
        wordings = sorted({label for example in batch for label in example.labels}, key=lambda w: (len(w), w))
        place = {label: i for i, label in enumerate(wordings)}
        label_ids = token_ids(self._tokenizer, wordings, settings.label_tokens)
        texts = [example.text for example in batch]
        text_ids, text_mask = pad(token_ids(self._tokenizer, texts, settings.text_tokens))
        chosen, shown = pad([[place[label] for label in example.labels] for example in batch])
        holds, _ = pad([example.holds for example in batch])
        put = [t.to(self._device) for t in (text_ids, text_mask, chosen, shown, holds)]
        text_ids, text_mask, chosen, shown, holds = put
        with torch.autocast(self._device.type, dtype=torch.bfloat16):
            vectors = self._label_vectors(label_ids)  # (distinct labels, hidden)
            logits = self.model(text_ids, text_mask, vectors[chosen])  # (batch, labels)
        loss = loss_of(logits, holds.float(), shown, gamma=settings.focal_gamma, softmax_share=settings.softmax_share)
        return self._descent.step(loss)

    def _label_vectors(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Vectors (labels, hidden) of wordings sorted by length, a group at a time: little padding."""
        size = 48
        groups = [pad(ids[i : i + size]) for i in range(0, len(ids), size)]
        return torch.cat([self.model.encode_labels(i.to(self._device), m.to(self._device)) for i, m in groups])

    def _save(self, step: int) -> None:
        """Write beside the target first: a killed run leaves the last whole checkpoint."""
        beside = self._out.with_name(self._out.name + ".partial")
        save_independent(self.model, beside, tokenizer=self._tokenizer_json, dtype=torch.float16)
        (beside / "training.json").write_text(json.dumps({"step": step, "seed": self._settings.seed}) + "\n")
        self._out.mkdir(parents=True, exist_ok=True)
        for path in beside.iterdir():
            os.replace(path, self._out / path.name)
        beside.rmdir()


def loss_of(logits: Tensor, holds: Tensor, shown: Tensor, *, gamma: float, softmax_share: float) -> Tensor:
    """Focal binary cross-entropy over shown labels, plus softmax cross-entropy where exactly one holds.

    Shapes: logits, holds (float) and shown (bool) (batch, labels). Focal: Lin et al. 2017, arXiv 1708.02002.
    """
    plain = binary_cross_entropy_with_logits(logits, holds, reduction="none")
    focal = (1.0 - torch.exp(-plain)).pow(gamma) * plain
    loss = (focal * shown).sum() / shown.sum()
    single = (holds.sum(-1) == 1) & (shown.sum(-1) > 1)
    if softmax_share and bool(single.any()):
        chances = log_softmax(logits.masked_fill(~shown, -1e4)[single], dim=-1)
        loss = loss - softmax_share * (chances * holds[single]).sum() / single.sum()
    return loss
