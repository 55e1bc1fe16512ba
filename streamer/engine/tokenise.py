"""From documents and label sets to rows of token ids, in GLiClass's format.

Enters: documents, each with its label set. Leaves: rows `[CLS]<<LABEL>>a<<LABEL>>b<<SEP>>prompt text examples[SEP]`,
or, for a model that reads the text first, `[CLS]text<<LABEL>>a<<LABEL>>b<<SEP>>prompt examples[SEP]`. What surrounds
the text (the frame) is tokenised once per label set, and the ids are those of tokenising the whole string at once.
Only the text is ever cut, and nothing in it can pass for a marker.

Must not know: models, devices, batching, Kafka.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tokenizers import Tokenizer

from streamer.engine.base import Row
from streamer.errors import UsageError
from streamer.facets import Label, LabelSet
from streamer.records import Document

FacetMode: TypeAlias = Literal["separate", "joint"]

LABEL, SEP, EXAMPLE = "<<LABEL>>", "<<SEP>>", "<<EXAMPLE>>"

MIN_TEXT_TOKENS: Final = 16
# A text is first cut to this many characters for each token there is room for (English has 4 to 5 a token), and
# taken up again, longer, only where that did not fill the room.
_CHARACTERS_PER_TOKEN: Final = 8
_LONGEST_WORD: Final = 256


@dataclass(frozen=True, slots=True)
class _Frame:
    """What surrounds the text in one row: ids before and after, and the tokens that text and prompt may take."""

    group: str
    first_label: int
    labels: int
    before: list[int]
    after: list[int]
    room_tokens: int


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A label set's frames. `lead` stands right before each text and is tokenised with it, since tokens may merge."""

    frames: tuple[_Frame, ...]
    lead: str
    lead_tokens: int
    room_tokens: int


class RowTokeniser:
    """Tokenises label sets once and windows of documents in one call of the tokenizer.

    `prompt_first` is the model's order. `facet_mode` "separate" gives each facet a row of its own, as exact as
    asking for it alone; "joint" puts all labels of a document into one row, where they see each other.
    `window_tokens` bounds a row. Raises UsageError for a tokenizer without GLiClass's markers.
    """

    def __init__(self, *, tokenizer: Tokenizer, prompt_first: bool, facet_mode: FacetMode, window_tokens: int) -> None:
        self._tokenizer, self._special, self._control = _hardened(tokenizer)
        self._prompt_first = prompt_first
        self._facet_mode = facet_mode
        self._window_tokens = window_tokens
        self._has_examples = self._tokenizer.token_to_id(EXAMPLE) is not None
        with_ends = self._tokenizer.encode(SEP)
        middle = with_ends.tokens.index(SEP)
        self._start, self._end = with_ends.ids[:middle], with_ends.ids[middle + 1 :]
        self._prepared: dict[str, _Prepared] = {}  # by scoring key

    def prepare(self, label_set: LabelSet) -> None:
        """Tokenise the label set; idempotent.

        Raises UsageError naming label set and facet where labels, prompt or examples hold a control token of this
        model, examples name no label, the model knows no examples, or too little room is left for a text.
        """
        if label_set.scoring_key not in self._prepared:
            self._prepared[label_set.scoring_key] = self._prepare(label_set)

    def forget(self, scoring_keys: Collection[str]) -> None:
        """Let go of prepared label sets; rows made of them stay good."""
        for key in scoring_keys:
            del self._prepared[key]

    def rows(self, documents: Sequence[Document]) -> list[Row]:
        """Rows of a window, in order of documents; facets in the order of the label set.

        A text too long for its row is cut at its end and the row marked `truncated`.
        """
        for document in documents:
            self.prepare(document.label_set)
        prepared = [self._prepared[document.label_set.scoring_key] for document in documents]
        texts = self._encode_texts([document.text for document in documents], prepared)
        return [
            _row(index, frame, ids, label_set.lead_tokens)
            for index, (label_set, ids) in enumerate(zip(prepared, texts, strict=True))
            for frame in label_set.frames
        ]

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _prepare(self, label_set: LabelSet) -> _Prepared:
        self._check(label_set)
        prompt = label_set.prompt or ""
        # The marker keeps a tokenizer from treating the prompt or text as the start of a string, which it is not.
        lead = f"{SEP}{prompt}" if self._prompt_first else ""
        lead_tokens = len(self._encode(lead)) - 1 if lead else 0
        frames = []
        for where, group, first, labels in self._questions(label_set):
            asked = "".join(f"{LABEL}{label.wording}" for label in labels) + SEP
            examples = _examples(label_set, labels)
            if self._prompt_first:
                before, after = self._encode(asked), self._encode(examples)
            else:
                before, after = [], self._encode(asked + prompt + examples)
            before, after = self._start + before, after + self._end
            room = self._window_tokens - len(before) - len(after)
            if room - lead_tokens < MIN_TEXT_TOKENS:
                raise UsageError(
                    f"{where}: labels, prompt and examples take {self._window_tokens - room + lead_tokens} of the"
                    f" {self._window_tokens} tokens of a row and leave less than {MIN_TEXT_TOKENS} for the text;"
                    " shorten them"
                )
            frames.append(_Frame(group, first, len(labels), before, after, room))
        return _Prepared(tuple(frames), lead, lead_tokens, max(frame.room_tokens for frame in frames))

    def _questions(self, label_set: LabelSet) -> Iterable[tuple[str, str, int, tuple[Label, ...]]]:
        """(place for messages, group, first label, labels) of each row that a document of this label set needs."""
        if self._facet_mode == "joint":
            yield f"label set '{label_set.name}', all facets", label_set.scoring_key, 0, label_set.labels
            return
        first = 0
        for facet in label_set.facets:
            where = f"label set '{label_set.name}', facet '{facet.name}'"
            yield where, f"{label_set.scoring_key}/{first}", first, facet.labels
            first += len(facet.labels)

    def _check(self, label_set: LabelSet) -> None:
        where = f"label set '{label_set.name}'"
        for facet in label_set.facets:
            for label in facet.labels:
                self._refuse_markers(f"{where}, facet '{facet.name}', label '{label.name}'", label.wording)
        self._refuse_markers(f"{where}, prompt", label_set.prompt or "")
        names = {label.name for label in label_set.labels}
        for number, example in enumerate(label_set.examples, start=1):
            self._refuse_markers(f"{where}, example {number}", example.text)
            for name in example.labels:
                if name not in names:
                    raise UsageError(f"{where}, example {number}: '{name}' is a label of none of its facets")
        if label_set.examples and not self._has_examples:
            raise UsageError(f"{where}: this model was not trained with examples (no {EXAMPLE} token); remove them")

    def _refuse_markers(self, where: str, text: str) -> None:
        found = [match[0] for match in self._special.finditer(text)]
        found += [str(self._tokenizer.id_to_token(index)) for index in self._encode(text) if index in self._control]
        if found:
            raise UsageError(f"{where}: '{found[0]}' is a control token of this model; reword it")

    def _encode_texts(self, texts: list[str], prepared: list[_Prepared]) -> list[list[int]]:
        """Ids of each text after its lead, at least one more than there is room for where the text is too long."""
        ids: list[list[int]] = [[]] * len(texts)
        pending = list(range(len(texts)))
        per_token = _CHARACTERS_PER_TOKEN
        marker_tokens = 1 if self._prompt_first else 0
        while pending:
            heads = [_head(texts[i], prepared[i].room_tokens * per_token) for i in pending]
            strings = [self._neutralised(prepared[i].lead, head) for i, head in zip(pending, heads, strict=True)]
            encodings = self._tokenizer.encode_batch_fast(strings, add_special_tokens=False)
            short = []
            for i, head, encoding in zip(pending, heads, encodings, strict=True):
                ids[i] = self._without_control(encoding.ids[marker_tokens:])
                if len(head) < len(texts[i]) and len(ids[i]) <= prepared[i].room_tokens:
                    short.append(i)
            pending, per_token = short, per_token * 4
        return ids

    def _without_control(self, ids: list[int]) -> list[int]:
        """Leave out control tokens that no pattern foresees: a unigram model has them in its vocabulary, and the
        normaliser before it makes them of full-width letters and brackets, or by taking out what is invisible."""
        return ids if self._control.isdisjoint(ids) else [index for index in ids if index not in self._control]

    def _neutralised(self, lead: str, text: str) -> str:
        """`lead` and text, a space put into whatever in the text (or across the seam) the tokenizer would match."""
        marker = len(SEP) if lead else 0
        string = lead[marker:] + text
        while self._special.search(string):
            string = self._special.sub(_broken, string)
        return lead[:marker] + string


def _broken(found: re.Match[str]) -> str:
    token = found[0]
    return f"{token[0]} {token[1:]}" if len(token) > 1 else " "


def _row(document: int, frame: _Frame, text: list[int], lead_tokens: int) -> Row:
    kept = text[: frame.room_tokens]
    ids = frame.before + kept + frame.after
    return Row(
        document=document,
        first_label=frame.first_label,
        labels=frame.labels,
        cost_tokens=len(ids),
        text_tokens=max(0, len(kept) - lead_tokens),
        truncated=len(text) > frame.room_tokens,
        ids=ids,
        group=frame.group,
    )


def _examples(label_set: LabelSet, labels: tuple[Label, ...]) -> str:
    """GLiClass's in-context examples, each with those of its labels that are asked for; without any it is left out."""
    wording = {label.name: label.wording for label in labels}
    shown = []
    for example in label_set.examples:
        own = [wording[name] for name in example.labels if name in wording]
        if own:
            shown.append(f"{EXAMPLE}{example.text} \nLabels:\n {', '.join(own)}")
    return "".join(shown) + SEP if shown else ""


def _head(text: str, characters: int) -> str:
    """The first `characters` of a text, less the word that the cut goes through."""
    if len(text) <= characters:
        return text
    head = text[:characters]
    words = head.rsplit(maxsplit=1)
    return words[0] if len(words) == 2 and len(words[1]) < _LONGEST_WORD else head


def _hardened(tokenizer: Tokenizer) -> tuple[Tokenizer, re.Pattern[str], frozenset[int]]:
    """A copy of the tokenizer that neither pads nor cuts, a pattern of all its control tokens, and the ids of those
    that it never gives to ordinary text.

    Control tokens of the copy match only as they are written: where the original compares them after normalising,
    "<<label>>" in a text would become a marker too.
    """
    state = json.loads(tokenizer.to_str())
    state["padding"] = state["truncation"] = None
    contents = []
    for token in state["added_tokens"]:
        if token["special"] or token["content"] in (LABEL, SEP, EXAMPLE):
            token["normalized"] = False
            contents.append(token["content"])
            if token["content"] in (LABEL, SEP, EXAMPLE) and token["lstrip"]:
                raise UsageError(f"the tokenizer strips text before {token['content']}, which is not implemented")
    for marker in (LABEL, SEP):
        if marker not in contents:
            raise UsageError(f"the tokenizer has no {marker} token: this is no GLiClass model")
    longest_first = sorted(contents, key=len, reverse=True)
    copy = Tokenizer.from_str(json.dumps(state))
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    model = state["model"]
    unknown = {model.get("unk_token"), model.get("unk_id")}  # what stands for unknown text: its token, or its id
    ids = copy.get_vocab()
    control = frozenset(ids[content] for content in contents if not unknown & {content, ids[content]})
    return copy, pattern, control
