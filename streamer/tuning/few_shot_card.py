"""The card of a model that was trained further: what it was made of, and how it is asked.

Enters: facts of a finished run. Leaves: Markdown. Must not know: files, models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from streamer import __version__
from streamer.facets import LabelSet
from streamer.terminal import printable
from streamer.tuning.few_shot import FewShotSettings, Outcome
from streamer.tuning.few_shot_data import Examples

CARD: Final = "MODEL_CARD.md"
_SHOWN: Final = 200  # characters of a name or a wording


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run; `examples` are those trained on, the first `labelled` of them labelled by people, and `held_out`
    counts the texts that were kept back."""

    label_set: LabelSet
    base: str
    base_revision: str
    settings: FewShotSettings
    outcome: Outcome
    labelled: int
    held_out: int
    examples: Examples


def card(trained: Trained, revision: str) -> str:
    """The text of MODEL_CARD.md for the weights of that revision."""
    settings, outcome = trained.settings, trained.outcome
    sure = len(trained.examples.texts) - trained.labelled
    method = f"LoRA of rank {settings.lora_rank}, merged" if settings.lora_rank else "all weights but the word vectors"
    lines = [
        f"# {_cell(trained.base)}, trained for '{_cell(trained.label_set.name)}'",
        "",
        f"Revision `{revision}`, from `{_cell(trained.base)}` (revision `{trained.base_revision}`) by "
        f"`streamer train` {__version__}.",
        "",
        f"- texts: {trained.labelled} labelled, {sure} unlabelled ones that the start was sure of, "
        f"{trained.held_out} held out",
        f"- trained: {method}; {outcome.steps} of {settings.steps} steps of {settings.batch} texts, rate "
        f"{settings.rate:g}, seed {settings.seed}; the weights are those of step {outcome.best_step}",
    ]
    if outcome.before is not None and outcome.best is not None:
        lines.append(
            f"- held-out texts right: {outcome.best.right:.1%} (log loss {outcome.best.loss:.3f}); before training "
            f"{outcome.before.right:.1%} ({outcome.before.loss:.3f}). The steps were chosen on these texts: measure on "
            "others (`streamer evaluate`)"
        )
    lines += ["", "| facet | kind | label, as the model reads it | examples |", "|---|---|---|---|"]
    counts = (trained.examples.right & trained.examples.known).sum(axis=0).tolist()
    rows = [(facet, label) for facet in trained.label_set.facets for label in facet.labels]
    lines += [
        f"| {_cell(facet.name)} | {facet.kind} | {_cell(label.wording)} | {count} |"
        for (facet, label), count in zip(rows, counts, strict=True)
    ]
    lines += [
        "",
        "Ask it for these labels, worded as above. Others can still be asked for, less well than before training. "
        "Calibration and thresholds made for the start do not fit it: make them anew. The licence of the start "
        "applies, and what the texts allow.",
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return printable(text, _SHOWN).replace("|", "\\|")
