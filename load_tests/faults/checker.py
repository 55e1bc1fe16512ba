"""Judges a run by what was read from Kafka: were the delivery invariants kept?

Enters: Evidence, that is the input records, everything a read_committed reader found at the end and while the run went
on, the group's committed offsets sampled meanwhile, and what was done to the processes. Leaves: a Verdict with a
Finding for each invariant: how much was looked at, how often it was broken, and the first examples.
Must not know: how any of it was read, or who did what to whom.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from load_tests.faults.evidence import Evidence, Finding, Input, Rules, Seen, Verdict
from streamer.records import Partition, Position

EXAMPLES = 5


def judge(evidence: Evidence, rules: Rules) -> Verdict:
    """Hold a run against what was promised."""
    seen = sorted(evidence.seen, key=lambda one: one.at)
    copies = Counter(one.of for one in seen)
    shares = share_duplicates(evidence.watched, evidence.disruptions, rules.max_uncommitted_records)
    findings = [
        _finding(1, "every input in an output or a dead letter", len(evidence.inputs), _lost(evidence, copies)),
        _finding(1, "not in both, and in the right one", len(seen), _misplaced(evidence)),
        _finding(1, "nothing but what was sent", len(seen), _unknown(evidence)),
        _finding(2, "committed only what is finished", len(evidence.samples), early_commits(evidence)),
        _finding(2, "all committed in the end", len(evidence.final), _uncommitted(evidence)),
        _finding(3, "a concurrent reader saw what is there", len(evidence.watched), _otherwise_seen(evidence)),
        _finding(5, "order by input partition, key, output topic", len(seen), _reordered(seen, evidence.inputs)),
        _finding(7, "label-set version", len(seen), _versions(evidence)),
        _finding(9, f"memory at most {rules.memory_mb:g} MB", len(evidence.memory), _memory(evidence, rules)),
        _finding(9, f"SIGTERM: ends by itself in {rules.grace_s:g} s", len(evidence.stops), _stops(evidence, rules)),
    ]
    if rules.delivery == "exactly_once":
        findings += [
            _finding(3, "no duplicate for a concurrent reader", len(evidence.watched), _repeated(evidence.watched)),
            _finding(3, "no duplicate in the end", len(seen), _repeated(seen)),
            _finding(5, "input order, whatever the key", len(seen), _stepping_back(seen, lambda a, b: a == b)),
            _finding(6, "nothing of an old owner after the new one's", len(seen), _stepping_back(seen, str.__ne__)),
        ]
    else:
        name = f"at most {rules.max_uncommitted_records:,} duplicates by disruption"
        findings.append(_finding(4, name, len(evidence.watched), iter(shares.unexplained)))
    known = [position for position in copies if position in evidence.inputs]
    return Verdict(
        delivery=rules.delivery,
        inputs=len(evidence.inputs),
        outputs=sum(not one.dead_letter for one in seen),
        dead_letters=sum(one.dead_letter for one in seen),
        lost=len(evidence.inputs) - len(known),
        duplicates=copies.total() - len(copies),
        most_per_disruption=shares.most,
        samples=len(evidence.samples),
        findings=tuple(sorted(findings, key=lambda one: one.invariant)),
    )


def _finding(invariant: int, name: str, checked: int, violations: Iterable[str]) -> Finding:
    examples: list[str] = []
    count = 0
    for count, example in enumerate(violations, 1):  # noqa: B007 - counted here, told below
        if len(examples) < EXAMPLES:
            examples.append(example)
    return Finding(invariant, name, checked, count, tuple(examples))


# 1: accounting


def _lost(evidence: Evidence, copies: Mapping[Position, int]) -> Iterator[str]:
    return (f"{position} is nowhere" for position in evidence.inputs if position not in copies)


def _misplaced(evidence: Evidence) -> Iterator[str]:
    for one in evidence.seen:
        sent = evidence.inputs.get(one.of)
        if sent is not None and sent.bad != one.dead_letter:
            yield f"{one.of} stands at {one.at}, a topic of {'dead letters' if one.dead_letter else 'outputs'}"


def _unknown(evidence: Evidence) -> Iterator[str]:
    for one in evidence.seen:
        sent = evidence.inputs.get(one.of)
        if sent is None:
            yield f"{one.at} names {one.of}, which was never sent"
        elif one.number is not None and one.number != sent.number:
            yield f"{one.at} names {one.of}, but holds record number {one.number}, not {sent.number}"


# 2: commits


def early_commits(evidence: Evidence) -> Iterator[str]:
    """Offsets found committed whose output or dead letter was not yet written.

    An output that was written before the sample stands below the end sampled after the committed offsets; one that
    a transaction held then counts, too, since `seen` holds only what was committed. Every offset is looked at in the
    first sample that has it committed.
    """
    places: dict[Position, list[Position]] = defaultdict(list)
    for one in evidence.seen:
        places[one.of].append(one.at)
    looked_at: dict[Partition, int] = {}
    for position in evidence.inputs:
        looked_at[position.at] = min(position.offset, looked_at.get(position.at, position.offset))
    for sample in sorted(evidence.samples, key=lambda sample: sample.at_s):
        for partition, committed in sample.committed.items():
            for offset in range(looked_at.get(partition, committed), committed):
                position = Position(*partition, offset)
                if position not in evidence.inputs:
                    yield f"{position} was committed at {sample.at_s:.1f} s, and was never sent"
                elif not any(at.offset < sample.ends.get(at.at, 0) for at in places[position]):
                    yield f"{position} was committed at {sample.at_s:.1f} s, before its output was written"
            looked_at[partition] = max(looked_at.get(partition, 0), committed)


def _uncommitted(evidence: Evidence) -> Iterator[str]:
    ends: dict[Partition, int] = {}
    for position in evidence.inputs:
        ends[position.at] = max(ends.get(position.at, 0), position.offset + 1)
    for partition, end in ends.items():
        committed = evidence.final.get(partition)
        if committed != end:
            yield f"{partition.topic}-{partition.partition} is committed up to {committed}, its end is {end}"


# 3: duplicates


def _repeated(seen: Sequence[Seen]) -> Iterator[str]:
    first: dict[Position, Seen] = {}
    for one in seen:
        before = first.setdefault(one.of, one)
        if before is not one:
            yield f"{one.of} by {before.writer} at {before.at}, again by {one.writer} at {one.at}"


def _otherwise_seen(evidence: Evidence) -> Iterator[str]:
    there, watched = ({one.at: one.of for one in some} for some in (evidence.seen, evidence.watched))
    twice = len(evidence.watched) - len(watched)
    if twice:
        yield f"{twice} places were delivered twice to the concurrent reader"
    for at in sorted(there.keys() | watched.keys()):
        if there.get(at) != watched.get(at):
            yield f"{at}: {watched.get(at, 'nothing')} while the run went on, {there.get(at, 'nothing')} in the end"


# 4: duplicates by disruption


@dataclass(frozen=True, slots=True)
class Shares:
    """Duplicates laid to the disruptions of processes; `unexplained` ones exceed what all of them allow."""

    most: int
    unexplained: tuple[str, ...]


def share_duplicates(watched: Sequence[Seen], disruptions: Mapping[str, int], allowed_each: int) -> Shares:
    """Lay each duplicate to one of the two writers it came from, as long as their disruptions allow it.

    A killed writer is the earlier of the two; one that was paused and woke up after its partitions had moved is the
    later.
    """
    last: dict[Position, Seen] = {}
    taken: Counter[str] = Counter()
    unexplained: list[str] = []
    for one in watched:
        before = last.get(one.of)
        last[one.of] = one
        if before is None:
            continue
        for writer in (before.writer, one.writer):
            if taken[writer] < allowed_each * disruptions.get(writer, 0):
                taken[writer] += 1
                break
        else:
            unexplained.append(f"{one.of} by {before.writer} at {before.at}, again by {one.writer} at {one.at}")
    most = max((-(-count // disruptions[writer]) for writer, count in taken.items() if count), default=0)
    return Shares(most, tuple(unexplained))


# 5 and 6: order


def _reordered(seen: Sequence[Seen], inputs: Mapping[Position, Input]) -> Iterator[str]:
    """Records of one key that come for the first time after a later one did. `seen` is in the order of places."""
    known: set[tuple[Position, str]] = set()
    highest: dict[tuple[Partition, bytes, str], Seen] = {}
    for one in seen:
        sent = inputs.get(one.of)
        if sent is None or sent.key is None or (one.of, one.at.topic) in known:
            continue
        known.add((one.of, one.at.topic))
        row = (one.of.at, sent.key, one.at.topic)
        before = highest.setdefault(row, one)
        if before.at.partition != one.at.partition:
            yield f"key {sent.key!r} stands in two partitions: {before.at} and {one.at}"
        elif one.of.offset < before.of.offset:
            yield f"{one.of} at {one.at} after {before.of} at {before.at}, key {sent.key!r}"
        else:
            highest[row] = one


def _stepping_back(seen: Sequence[Seen], concerns: Callable[[str, str], bool]) -> Iterator[str]:
    """Messages behind a later one of their input partition in the same output partition, of writers that concern."""
    highest: dict[tuple[Partition, Partition], Seen] = {}
    for one in seen:
        before = highest.get((one.of.at, one.at.at))
        if before is None or one.of.offset > before.of.offset:
            highest[one.of.at, one.at.at] = one
        elif one.of.offset < before.of.offset and concerns(before.writer, one.writer):
            yield f"{one.of} by {one.writer} at {one.at} after {before.of} by {before.writer} at {before.at}"


# 7 and 9


def _versions(evidence: Evidence) -> Iterator[str]:
    for one in evidence.seen:
        wanted = evidence.versions.get(one.writer)
        if wanted is None or (one.version != wanted and not one.dead_letter):
            yield f"{one.at} by {one.writer} has version {one.version}, not {wanted}"


def _memory(evidence: Evidence, rules: Rules) -> Iterator[str]:
    for one in evidence.memory:
        if one.rss_mb > rules.memory_mb:
            yield f"{one.writer} held {one.rss_mb:.0f} MB at {one.at_s:.1f} s"


def _stops(evidence: Evidence, rules: Rules) -> Iterator[str]:
    """A process that cannot commit ends with 1; that is right only where the cluster was not whole."""
    for one in evidence.stops:
        right = one.exit_code == 0 or (one.disturbed and one.exit_code == 1)
        if not right or one.seconds > rules.grace_s:
            ending = "had to be killed" if one.exit_code is None else f"ended with {one.exit_code}"
            yield f"{one.writer} {ending} {one.seconds:.1f} s after SIGTERM"
