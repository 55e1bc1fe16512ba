"""The checker finds what was planted, and nothing where nothing was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.faults.checker import judge, share_duplicates
from load_tests.faults.evidence import Evidence, Input, Memory, Rules, Sample, Seen, Stop, Verdict
from streamer.records import Partition, Position

RECORDS = 20
VERSION = "0123456789abcdef"
IN = Partition("in", 0)
OUT, DEAD = Partition("out", 0), Partition("dead", 0)
BAD = 7


def rules(delivery: Literal["exactly_once", "at_least_once"] = "exactly_once") -> Rules:
    return Rules(delivery=delivery, max_uncommitted_records=3, memory_mb=300, grace_s=30)


def place(offset: int, at: int, writer: str = "a") -> Seen:
    """The event of input `offset`, at the given offset of the output."""
    return Seen(Position(*IN, offset), Position(*OUT, at), False, offset, writer, VERSION, float(at))


def placed(offsets: Sequence[int], writer: str = "a") -> list[Seen]:
    return [place(offset, at, writer) for at, offset in enumerate(offsets)]


def dead(offset: int, at: int = 0) -> Seen:
    return Seen(Position(*IN, offset), Position(*DEAD, at), True, None, "a", None, float(offset))


GOOD = [offset for offset in range(RECORDS) if offset != BAD]


def evidence(seen: Sequence[Seen] | None = None) -> Evidence:
    """20 records of three keys in one partition, one of them bad, labelled by writer "a" without a fault."""
    everything = [*placed(GOOD), dead(BAD)] if seen is None else seen
    return Evidence(
        inputs={
            Position(*IN, offset): Input(b"k%d" % (offset % 3), offset, offset == BAD) for offset in range(RECORDS)
        },
        seen=everything,
        watched=everything,
        samples=[Sample(1.0, {IN: 10}, {OUT: 9, DEAD: 1}), Sample(2.0, {IN: RECORDS}, {OUT: 19, DEAD: 1})],
        final={IN: RECORDS},
        versions={"a": VERSION, "b": VERSION},
        disruptions={},
        memory=[Memory("a", 1.0, 100.0)],
        stops=[Stop("a", 0, 1.0, False)],
    )


def broken(verdict: Verdict) -> dict[str, int]:
    return {finding.name: finding.violations for finding in verdict.findings if finding.violations}


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_run_without_fault_holds(delivery: Literal["exactly_once", "at_least_once"]) -> None:
    verdict = judge(evidence(), rules(delivery))
    assert verdict.holds
    assert (verdict.inputs, verdict.outputs, verdict.dead_letters) == (20, 19, 1)
    assert (verdict.lost, verdict.duplicates, verdict.samples) == (0, 0, 2)
    assert verdict.as_json()["holds"] is True


def test_a_loss_is_found() -> None:
    without = [one for one in evidence().seen if one.of.offset != 12]
    verdict = judge(evidence(without), rules("at_least_once"))
    found = broken(verdict)
    assert verdict.lost == found["every input in an output or a dead letter"] == 1
    assert found["committed only what is finished"] == 1
    assert "in-0-12 is nowhere" in verdict.findings[0].examples


def test_a_record_in_the_wrong_topic_is_found() -> None:
    good_in_dead = [*placed([offset for offset in GOOD if offset != 5]), dead(5, 0), dead(BAD, 1)]
    assert broken(judge(evidence(good_in_dead), rules()))["not in both, and in the right one"] == 1
    both = [*placed(GOOD), dead(5, 0), dead(BAD, 1)]
    assert broken(judge(evidence(both), rules("at_least_once")))["not in both, and in the right one"] == 1


def test_an_unknown_id_and_a_mixed_up_event_are_found() -> None:
    stranger = replace(place(19, 19), of=Position("in", 0, 99), number=99)
    assert broken(judge(evidence([*evidence().seen, stranger]), rules())) == {"nothing but what was sent": 1}
    mixed = [replace(one, number=6 if one.of.offset == 5 else one.number) for one in evidence().seen]
    assert broken(judge(evidence(mixed), rules())) == {"nothing but what was sent": 1}


def test_an_early_commit_is_found() -> None:
    early = Sample(0.5, {IN: 5}, {OUT: 4, DEAD: 0})
    verdict = judge(replace(evidence(), samples=[early, *evidence().samples]), rules())
    assert broken(verdict) == {"committed only what is finished": 1}
    assert verdict.findings[3].examples == ("in-0-4 was committed at 0.5 s, before its output was written",)
    beyond = replace(evidence(), samples=[Sample(3.0, {IN: RECORDS + 2}, {OUT: 19, DEAD: 1})])
    assert broken(judge(beyond, rules())) == {"committed only what is finished": 2}


def test_an_offset_left_uncommitted_is_found() -> None:
    assert broken(judge(replace(evidence(), final={IN: 19}), rules())) == {"all committed in the end": 1}
    assert broken(judge(replace(evidence(), final={}), rules())) == {"all committed in the end": 1}


def test_a_duplicate_is_found() -> None:
    again = [*placed([*GOOD, 19]), dead(BAD)]
    verdict = judge(evidence(again), rules())
    assert verdict.duplicates == 1
    assert broken(verdict) == {"no duplicate for a concurrent reader": 1, "no duplicate in the end": 1}


def test_a_duplicate_that_only_the_concurrent_reader_saw_is_found() -> None:
    ghost = [*evidence().seen, place(19, 19)]
    found = broken(judge(replace(evidence(), watched=ghost), rules()))
    assert found == {"a concurrent reader saw what is there": 1, "no duplicate for a concurrent reader": 1}


def test_duplicates_are_laid_to_disruptions() -> None:
    repeated = [*placed([0, 1, 2, 3], "a"), *(place(offset, 4 + offset, "b") for offset in (1, 2, 3))]
    assert share_duplicates(repeated, {"a": 1}, allowed_each=3).unexplained == ()
    assert share_duplicates(repeated, {"a": 1}, allowed_each=3).most == 3
    assert share_duplicates(repeated, {"a": 2}, allowed_each=3).most == 2
    assert share_duplicates(repeated, {"b": 1}, allowed_each=3).unexplained == (), "b was paused and woke up late"
    assert len(share_duplicates(repeated, {"a": 1}, allowed_each=2).unexplained) == 1
    assert len(share_duplicates(repeated, {}, allowed_each=3).unexplained) == 3


def test_duplicates_beyond_what_the_kills_allow_are_found() -> None:
    seen = [*placed(GOOD), *(place(offset, 19 + at, "b") for at, offset in enumerate((16, 17, 18, 19))), dead(BAD)]
    name = "at most 3 duplicates by disruption"
    assert broken(judge(replace(evidence(seen), disruptions={"a": 1}), rules("at_least_once"))) == {name: 1}
    assert judge(replace(evidence(seen), disruptions={"a": 2}), rules("at_least_once")).holds
    assert broken(judge(evidence(seen), rules("at_least_once"))) == {name: 4}


def test_a_reorder_within_a_key_is_found() -> None:
    swapped = GOOD.copy()
    swapped[8], swapped[11] = swapped[11], swapped[8]  # offsets 9 and 12, of one key
    found = broken(judge(evidence([*placed(swapped), dead(BAD)]), rules("at_least_once")))
    assert found["order by input partition, key, output topic"] >= 1


def test_a_reorder_across_keys_is_found_where_input_order_is_promised() -> None:
    swapped = GOOD.copy()
    swapped[10], swapped[11] = swapped[11], swapped[10]
    settled = replace(evidence([*placed(swapped), dead(BAD)]), samples=evidence().samples[1:])
    assert broken(judge(settled, rules("at_least_once"))) == {}
    assert broken(judge(settled, rules())) == {"input order, whatever the key": 1}


def test_a_late_output_of_an_old_owner_is_found() -> None:
    seen = [place(offset, at, "a" if offset in (0, 1, 2, 3, 6) else "b") for at, offset in enumerate(GOOD)]
    moved = [one for one in seen if one.of.offset != 6] + [place(6, 30, "a"), dead(BAD)]
    found = broken(judge(evidence(moved), rules()))
    assert found["nothing of an old owner after the new one's"] == 1
    assert judge(evidence([*seen, dead(BAD)]), rules()).holds, "going back to an owner is no fault"


def test_a_key_in_two_partitions_is_found() -> None:
    seen = [replace(one, at=one.at._replace(partition=1)) if one.of.offset == 19 else one for one in evidence().seen]
    found = broken(judge(replace(evidence(seen), samples=[]), rules()))
    assert found == {"order by input partition, key, output topic": 1}


def test_a_wrong_version_is_found() -> None:
    other = [replace(one, version="f" * 16) if one.of.offset == 3 else one for one in evidence().seen]
    assert broken(judge(evidence(other), rules())) == {"label-set version": 1}
    stranger = [replace(one, writer="?") if one.of.offset == 3 else one for one in evidence().seen]
    assert broken(judge(evidence(stranger), rules())) == {"label-set version": 1}


def test_memory_and_endings_are_judged() -> None:
    fat = replace(evidence(), memory=[Memory("a", 1.0, 301.0)])
    assert broken(judge(fat, rules())) == {"memory at most 300 MB": 1}
    for stop in (Stop("a", 1, 1.0, False), Stop("a", None, 60.0, True), Stop("a", 0, 31.0, True)):
        assert broken(judge(replace(evidence(), stops=[stop]), rules())) == {"SIGTERM: ends by itself in 30 s": 1}
    assert judge(replace(evidence(), stops=[Stop("a", 1, 1.0, True)]), rules()).holds, "it could not commit"


@given(st.data())
def test_whatever_crashes_repeat_from_committed_offsets_is_no_reorder(data: st.DataObject) -> None:
    """Each writer goes on in order, from somewhere at or before where its predecessor stopped."""
    sequence: list[tuple[int, str]] = []
    reached = 0
    writers = data.draw(st.integers(1, 5))
    for number in range(writers):
        begin = data.draw(st.integers(max(0, reached - 3), reached))
        end = RECORDS if number == writers - 1 else data.draw(st.integers(begin, RECORDS))
        sequence += [(offset, f"w{number}") for offset in range(begin, end)]
        reached = max(reached, end)
    seen = [place(offset, at, writer) for at, (offset, writer) in enumerate(sequence)]
    base = evidence(seen)
    run = replace(
        base,
        inputs={position: replace(sent, bad=False) for position, sent in base.inputs.items()},
        samples=[],
        versions={f"w{number}": VERSION for number in range(writers)},
        disruptions={f"w{number}": 1 for number in range(writers)},
    )
    verdict = judge(run, rules("at_least_once"))
    assert verdict.holds, verdict
    assert verdict.duplicates == len(seen) - RECORDS
