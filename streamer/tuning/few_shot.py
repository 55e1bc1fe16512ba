"""Fine-tune a zero-shot model on a user's own labels: eight texts a label are enough to begin with.

Enters: a Tunable, Examples, settings. Leaves: the Tunable, its weights trained. Recipe: AdamW on everything but the
word vectors, a learning rate that rises for a tenth of the run and then falls to nothing; cross-entropy over the
labels of a single facet, binary cross-entropy for those of a multi facet, all labels of the label set at once. The
model begins where its zero-shot answers are, so labels without examples keep what their wording says.

A run is decided by its settings and data: which texts a step takes follows from the seed and the number of the step,
nothing else is drawn at random, and a Checkpoint holds the rest. So a resumed run equals one that was never broken off.

Must not know: files, labels' names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from random import Random
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from streamer.facets import Facet, Kind
from streamer.tuning.checkpoint import Checkpoint
from streamer.tuning.few_shot_data import Examples
from streamer.tuning.few_shot_model import TextRows, Tunable
from streamer.tuning.lora import add_lora, merge_lora

# The recipe, chosen on eight-shot episodes of sets that no figure is given for.
HEAD_RATE: Final = 3.0  # times the encoder's
WARM_UP_SHARE: Final = 0.1
WEIGHT_DECAY: Final = 0.01
CLIP_NORM: Final = 1.0
SCORING_TEXTS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShotSettings:
    """Everything that decides a run, beside model and data.

    `steps` batches of `batch` texts are trained on, at most `chunk_tokens` of them at a time (memory). `rate` is
    AdamW's for the encoder; `lora_rank` 0 trains the weights themselves. Held-out texts are scored every
    `score_steps`, and the run ends when `patience` such scores in a row are no better than the best. Every
    `checkpoint_steps` the state is handed out.
    """

    steps: int
    batch: int
    rate: float
    lora_rank: int
    seed: int
    chunk_tokens: int
    score_steps: int
    patience: int
    checkpoint_steps: int


@dataclass(frozen=True, slots=True)
class Score:
    """How well held-out texts are answered; more `right` is better, and of equals the lower `loss`.

    `right` is the share of known answers: the best label of a single facet, each label of a multi facet.
    """

    right: float
    loss: float

    def beats(self, other: Score) -> bool:
        return (self.right, -self.loss) > (other.right, -other.loss)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`steps` done; held-out scores `before` training and of the weights kept, None without held-out texts."""

    steps: int
    before: Score | None
    best: Score | None
    best_step: int


@dataclass(slots=True)
class _Best:
    """The best held-out score so far, when it was, the weights that had it, and how many scores have come since."""

    score: Score
    step: int
    weights: dict[str, Tensor]
    since: int


def steps_for(texts: int, *, batch: int, epochs: float, least: int) -> int:
    """How many batches go through so many texts `epochs` times, and at least `least`."""
    return max(least, ceil(epochs * texts / batch))


class FewShotRun:
    """One run on one model; `run` may be called once."""

    def __init__(
        self,
        *,
        model: Tunable,
        facets: Sequence[Facet],
        fit: Examples,
        held_out: Examples | None,
        settings: FewShotSettings,
    ) -> None:
        self._model, self._facets, self._fit, self._held_out, self._settings = model, facets, fit, held_out, settings
        model.module.requires_grad_(True)
        if settings.lora_rank:
            add_lora(model.module, settings.lora_rank, seed=settings.seed)
        # words that the examples lack keep their place beside those they have
        model.words.requires_grad_(False)
        self._rows = model.rows(fit.texts)
        self._trained = {name: p for name, p in model.module.named_parameters() if p.requires_grad}
        encoder = {id(p) for p in model.encoder.parameters()}
        groups = [(1.0, True), (HEAD_RATE, False)]
        self._rates = [settings.rate * factor for factor, _ in groups]
        self._optimizer = torch.optim.AdamW(
            [{"params": [p for p in self._trained.values() if (id(p) in encoder) is of]} for _, of in groups],
            weight_decay=WEIGHT_DECAY,
        )

    def run(
        self,
        *,
        resume: Checkpoint | None,
        progress: Callable[[int, float], None],
        save: Callable[[Checkpoint], None],
    ) -> Outcome:
        """Train to the end; the model then has the weights to keep, LoRA merged.

        `progress` is told (steps done, loss); `save` is given the state, to be handed back as `resume`.
        """
        settings = self._settings
        done, before, best = self._begin() if resume is None else self._restore(resume)
        while done < settings.steps and (best is None or best.since < settings.patience):
            loss = self._step(done)
            done += 1
            if best is not None and (done % settings.score_steps == 0 or done == settings.steps):
                self._compare(best, done)
            progress(done, loss)
            if done % settings.checkpoint_steps == 0 and done < settings.steps:
                save(self._checkpoint(done, before, best))
        if best is not None:
            self._load(best.weights)
        merge_lora(self._model.module)
        return Outcome(done, before, best.score if best else None, best.step if best else done)

    def _begin(self) -> tuple[int, Score | None, _Best | None]:
        if self._held_out is None:
            return 0, None, None
        before = score(self._model, self._facets, self._held_out)
        return 0, before, _Best(before, 0, self._copy(), 0)

    def _step(self, number: int) -> float:
        """One batch; returns its loss."""
        rows = self._batch(number)
        rate = _rate(number, self._settings.steps)
        for group, full in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = full * rate
        self._optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for chunk in _chunks(rows, self._rows, self._settings.chunk_tokens):
            logits = self._model.logits([self._rows[row] for row in chunk])
            loss = loss_of(logits, self._fit.take(chunk), self._facets) * (len(chunk) / len(rows))
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        nn.utils.clip_grad_norm_(self._trained.values(), CLIP_NORM)
        self._optimizer.step()
        return total

    def _batch(self, number: int) -> list[int]:
        """Rows of a step: texts in an order drawn anew for each round through them, cut into batches."""
        texts = len(self._fit.texts)
        size = min(self._settings.batch, texts)
        out: list[int] = []
        while len(out) < size:
            round_, place = divmod(number * size + len(out), texts)
            order = Random(f"{self._settings.seed}/{round_}").sample(range(texts), texts)
            out += order[place : place + size - len(out)]
        return out

    def _compare(self, best: _Best, step: int) -> None:
        assert self._held_out is not None
        found = score(self._model, self._facets, self._held_out)
        best.since += 1
        if found.beats(best.score):
            best.score, best.step, best.weights, best.since = found, step, self._copy(), 0

    def _copy(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self._trained.items()}

    @torch.no_grad()
    def _load(self, weights: dict[str, Tensor]) -> None:
        for name, weight in self._trained.items():
            weight.copy_(weights[name])

    def _checkpoint(self, done: int, before: Score | None, best: _Best | None) -> Checkpoint:
        tensors: dict[str, Tensor] = {f"weights/{name}": weight for name, weight in self._trained.items()}
        for name, weight in self._trained.items():
            for key, value in self._optimizer.state[weight].items():
                tensors[f"optimizer/{key}/{name}"] = value
        facts: dict[str, Any] = {"done": done}
        if before is not None and best is not None:
            tensors.update({f"best/{name}": weight for name, weight in best.weights.items()})
            facts["before"] = [before.right, before.loss]
            facts["best"] = [best.score.right, best.score.loss]
            facts["best_step"], facts["since"] = best.step, best.since
        return Checkpoint(facts, tensors)

    def _restore(self, checkpoint: Checkpoint) -> tuple[int, Score | None, _Best | None]:
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in checkpoint.tensors.items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = value
        self._load(parts["weights"])
        for key, value in parts["optimizer"].items():
            kind, _, name = key.partition("/")
            weight = self._trained[name]
            self._optimizer.state[weight][kind] = value if kind == "step" else value.to(weight.device)
        facts = checkpoint.facts
        if self._held_out is None:
            return facts["done"], None, None
        best = _Best(Score(*facts["best"]), facts["best_step"], parts["best"], facts["since"])
        return facts["done"], Score(*facts["before"]), best


def loss_of(logits: Tensor, examples: Examples, facets: Sequence[Facet]) -> Tensor:
    """Mean over texts of the sum over their known facets; logits (texts, labels of all facets).

    A single facet costs its cross-entropy, a multi facet the mean binary cross-entropy of its known labels.
    """
    right = torch.from_numpy(examples.right).to(logits.device).float()
    known = torch.from_numpy(examples.known).to(logits.device).float()
    costs = logits.new_zeros(len(logits))
    for facet, here in _slices(facets):
        own, true, of = logits[:, here], right[:, here], known[:, here]
        if facet.kind is Kind.SINGLE:
            costs = costs + cross_entropy(own, true, reduction="none") * of[:, 0]
        else:
            each = binary_cross_entropy_with_logits(own, true, reduction="none") * of
            costs = costs + each.sum(1) / of.sum(1).clamp_min(1.0)
    return costs.mean()


@torch.no_grad()
def logits_of(model: Tunable, texts: Sequence[str]) -> Tensor:
    """Logits (texts, labels) on the CPU, texts of about one length at a time."""
    rows = model.rows(texts)
    order = sorted(range(len(rows)), key=lambda row: _tokens(rows[row]))
    parts = [order[first : first + SCORING_TEXTS] for first in range(0, len(order), SCORING_TEXTS)]
    found = torch.cat([model.logits([rows[row] for row in part]).cpu() for part in parts])
    return found[torch.tensor(order).argsort()]


def score(model: Tunable, facets: Sequence[Facet], examples: Examples) -> Score:
    """Score a model on texts whose labels are known; thresholds of multi facets are those of the facets."""
    logits = logits_of(model, examples.texts)
    right, known = torch.from_numpy(examples.right), torch.from_numpy(examples.known)
    hits = answers = 0.0
    for facet, here in _slices(facets):
        own, true, of = logits[:, here], right[:, here], known[:, here]
        if facet.kind is Kind.SINGLE:
            hits += float(true.gather(1, own.argmax(1, keepdim=True))[of[:, 0]].sum())
            answers += float(of[:, 0].sum())
        else:
            hits += float((((own.sigmoid() >= facet.threshold) == true) & of).sum())
            answers += float(of.sum())
    return Score(hits / answers, float(loss_of(logits, examples, facets)))


def _rate(step: int, steps: int) -> float:
    """Linear warm-up, then linear decay; 1.0 at the peak."""
    return min((step + 1) / max(1.0, WARM_UP_SHARE * steps), 1.0) * (1.0 - step / steps)


def _slices(facets: Sequence[Facet]) -> Iterator[tuple[Facet, slice]]:
    first = 0
    for facet in facets:
        yield facet, slice(first, first + len(facet.labels))
        first += len(facet.labels)


def _tokens(rows: TextRows) -> int:
    return max(map(len, rows))


def _chunks(batch: Sequence[int], rows: Sequence[TextRows], tokens: int) -> Iterator[list[int]]:
    """The batch by length, cut so that each part has at most so many tokens, padding counted, or a single text."""
    chunk: list[int] = []
    for row in sorted(batch, key=lambda row: _tokens(rows[row])):
        if chunk and _tokens(rows[row]) * (len(chunk) + 1) > tokens:
            yield chunk
            chunk = []
        chunk.append(row)
    yield chunk
