"""WordNet 3.0 as labelled text: a gloss is a text, its hypernyms and topic domains are labels that hold.

Enters: the folder of WordNet's database files (`data.noun`, `data.verb`; format: wndb(5WN)). Leaves: Sources.
Must not know: models, training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streamer.errors import UsageError

# so general that nearly every gloss has them: as labels they teach nothing
_TOO_GENERAL = 3  # levels from the root of the noun tree that are never used as labels
_MAX_POSITIVES = 4


@dataclass(frozen=True, slots=True)
class Gloss:
    """A definition with the wordings that hold for it, and its lexicographer file (a coarse domain, 0-44)."""

    text: str
    positives: tuple[str, ...]
    domain: int


@dataclass(frozen=True, slots=True)
class _Synset:
    words: tuple[str, ...]
    domain: int
    hypernyms: tuple[str, ...]
    topics: tuple[str, ...]
    gloss: str


def _parse_line(line: str, part: str) -> tuple[str, _Synset]:
    fields, _, gloss = line.partition(" | ")
    token = fields.split()
    count = int(token[3], 16)
    words = tuple(token[4 + 2 * i].replace("_", " ") for i in range(count))
    at = 4 + 2 * count
    hypernyms, topics = [], []
    for i in range(int(token[at])):
        symbol, offset, pos, _ = token[at + 1 + 4 * i : at + 5 + 4 * i]
        if symbol in ("@", "@i"):
            hypernyms.append(pos + offset)
        elif symbol == ";c":
            topics.append(pos + offset)
    return part + token[0], _Synset(words, int(token[1]), tuple(hypernyms), tuple(topics), gloss.strip())


def _depths(synsets: dict[str, _Synset]) -> dict[str, int]:
    """Shortest distance of every synset from a root of its hypernym tree."""
    depth: dict[str, int] = {}

    def of(key: str) -> int:
        chain = []
        while key not in depth:
            chain.append(key)
            parents = [h for h in synsets[key].hypernyms if h in synsets and h not in chain]
            if not parents:
                depth[key] = 0
                break
            key = parents[0]
        for child in reversed(chain):
            if child not in depth:
                parents = [h for h in synsets[child].hypernyms if h in depth]
                depth[child] = 1 + min((depth[h] for h in parents), default=-1)
        return depth[chain[0]] if chain else depth[key]

    for key in synsets:
        of(key)
    return depth


def _texts(gloss: str) -> list[str]:
    """The definition, and each quoted example of use that is a sentence of its own."""
    definition, *quoted = gloss.split('; "')
    examples = [q.rstrip('"').strip() for q in quoted]
    return [definition.strip()] + [f"{definition.strip()}: {e}" for e in examples[:1] if len(e.split()) > 3]


def read_wordnet(folder: Path) -> list[Gloss]:
    """Read nouns and verbs; raises UsageError where the files are missing."""
    synsets: dict[str, _Synset] = {}
    for part, name in (("n", "data.noun"), ("v", "data.verb")):
        path = folder / name
        if not path.is_file():
            raise UsageError(f"{path}: not found; --wordnet takes the folder of WordNet's database files")
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if not line.startswith("  "):  # the licence stands in front, indented
                key, synset = _parse_line(line, part)
                synsets[key] = synset
    depth = _depths(synsets)
    glosses = []
    for synset in synsets.values():
        positives = [synsets[topic].words[0] for topic in synset.topics if topic in synsets]
        frontier = list(synset.hypernyms)
        for _ in range(4):
            frontier = [h for h in frontier if h in synsets and (depth[h] > _TOO_GENERAL or h[0] == "v")]
            positives += [synsets[h].words[0] for h in frontier]
            frontier = [up for h in frontier for up in synsets[h].hypernyms]
        unique = tuple(dict.fromkeys(positives))[:_MAX_POSITIVES]
        if unique:
            glosses += [Gloss(text, unique, synset.domain) for text in _texts(synset.gloss)]
    return glosses
