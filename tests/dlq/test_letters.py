"""Dead letters taken apart, and chosen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.dlq.letters import DeadLetter, Selection, open_letter, parse_position
from streamer.encode import DEAD_LETTER_HEADER, Encoder
from streamer.engine.base import ModelInfo
from streamer.errors import UsageError
from streamer.records import Envelope, Headers, Position, Reject, Stream

STREAM = Stream(
    topic="in", output="out", dead_letter="dead", label_set="tickets", text=("/text",), parse_json=True,
    pass_payload=False, pass_headers=frozenset(), all_scores=True, keep_timestamp=True, max_value_bytes=1000, weight=1,
)  # fmt: skip
NOTHING: frozenset[str] = frozenset()


def record(value: bytes | None, headers: Headers, key: bytes | None = b"key") -> Envelope[None]:
    return Envelope(Position("dead", 0, 5), 0, key, headers, 1800, value, None)


def written(value: bytes | None, headers: Headers = (), key: bytes | None = b"key") -> DeadLetter:
    """The dead letter of a record, as the encoder writes it."""
    encoder = Encoder(model=ModelInfo("fake", "1", "cpu", "float32", 512), max_dead_letter_bytes=20)
    reject = Reject("not_json", "not JSON: ä")
    message = encoder.dead_letter(STREAM, Envelope(Position("in", 3, 7), 1, key, headers, 1700, value, reject))
    return open_letter(record(message.value, message.headers, message.key))


def test_what_the_encoder_writes_is_understood() -> None:
    assert written(b"{", (("trace", b"1"), ("trace", None))) == DeadLetter(
        at=Position("dead", 0, 5),
        written_ms=1800,
        code="not_json",
        message="not JSON: ä",
        source=Position("in", 3, 7),
        source_ms=1700,
        label_set="tickets",
        key=b"key",
        value=b"{",
        headers=(("trace", b"1"), ("trace", None)),
        cuts=(),
        redrives=0,
    )


@pytest.mark.parametrize(
    ("letter", "cut"),
    [
        (written(b"x" * 5000), "the value is cut to 20 bytes of 5000; SHA-256 of the whole: "),
        (written(b"{", key=b"k" * 100_000), "the key is cut to 65556 bytes of 100000; SHA-256 of the whole: "),
        (written(b"{", (("big", b"h" * 100_000),)), "1 headers are left out"),
    ],
)
def test_what_is_cut_is_told(letter: DeadLetter, cut: str) -> None:
    assert letter.cuts[0].startswith(cut)


@pytest.mark.parametrize(
    ("headers", "redrives"),
    [
        ((), 0),
        ((("redrive-of", b"dead-0-1"), ("redrive-count", b"1")), 1),
        ((("redrive-of", b"dead-0-1"), ("redrive-of", b"dead-0-2"), ("redrive-count", b"1")), 2),
        ((("redrive-count", b"7"),), 7),
        ((("redrive-count", b"-7"), ("redrive-count", b"\xff"), ("redrive-count", None)), 0),
    ],
)
def test_how_often_it_was_redriven(headers: Headers, redrives: int) -> None:
    assert written(b"{", headers).redrives == redrives


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "code", "topic", "partition", "offset", "timestamp-ms", "value-bytes", "x"]).map(
                lambda name: DEAD_LETTER_HEADER + name
            )
            | st.sampled_from(["redrive-of", "redrive-count", "other"]),
            st.none() | st.binary(max_size=30) | st.integers().map(lambda number: str(number).encode()),
        )
    )
)
def test_nothing_in_the_headers_makes_it_fail(headers: list[tuple[str, bytes | None]]) -> None:
    letter = open_letter(record(None, tuple(headers), None))
    assert letter.redrives >= 0
    assert letter.source is None or letter.source.offset >= 0


def test_a_record_without_our_headers_is_none_of_ours() -> None:
    letter = open_letter(record(b"v", (("a", b"b"),)))
    assert (letter.code, letter.source) == ("", None)


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(NOTHING, NOTHING, frozenset()), True),
        (Selection(frozenset({"not_json", "no_text"}), frozenset({"in"}), frozenset()), True),
        (Selection(frozenset({"no_text"}), NOTHING, frozenset()), False),
        (Selection(NOTHING, frozenset({"other"}), frozenset()), False),
        (Selection(NOTHING, NOTHING, frozenset({Position("dead", 0, 5)})), True),
        (Selection(NOTHING, NOTHING, frozenset({Position("in", 2, 7)})), True),
        (Selection(NOTHING, NOTHING, frozenset({Position("in", 2, 8)})), False),
        (Selection(frozenset({"no_text"}), NOTHING, frozenset({Position("in", 2, 7)})), False),
    ],
)
def test_selection(letter: Callable[..., DeadLetter], selection: Selection, taken: bool) -> None:
    assert selection.takes(letter()) is taken


def test_a_source_that_is_unknown_is_never_chosen_by_it(letter: Callable[..., DeadLetter]) -> None:
    assert not Selection(NOTHING, frozenset({"in"}), frozenset()).takes(letter(source=None))


def test_positions() -> None:
    assert parse_position("tickets.dead-1-0-42") == Position("tickets.dead-1", 0, 42)
    assert parse_position("a-0-1") == Position("a", 0, 1)
    for wrong in ("", "a", "a-1", "a-1-b", "a-1--2", "a b-1-2", "-1-2", "a-0-1\n"):
        with pytest.raises(UsageError, match="write topic-partition-offset"):
            parse_position(wrong)
