"""Bytes to documents: whatever a record holds ends in a value."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.decode import Decoder
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.records import Document, Envelope, Position, Reject, Stream

LABELS = LabelSet("l", (Facet("f", Kind.SINGLE, (Label("a"), Label("b"))),))


def stream(*text: str, parse_json: bool = True, pass_payload: bool = False, max_value_bytes: int = 1000) -> Stream:
    return Stream(
        topic="in", output="out", dead_letter="dead", label_set="l", text=text or ("/text",), parse_json=parse_json,
        pass_payload=pass_payload, pass_headers=frozenset(), all_scores=True, keep_timestamp=True,
        max_value_bytes=max_value_bytes, weight=1,
    )  # fmt: skip


def decode(value: bytes | None, one: Stream | None = None) -> Document | Reject:
    decoder = Decoder(streams={"in": one or stream()}, label_sets={"l": LABELS})
    return decoder.decode(Envelope(Position("in", 0, 0), 1, None, (), None, value, None))


def test_other_label_sets_are_for_what_is_decoded_from_then_on() -> None:
    decoder = Decoder(streams={"in": stream()}, label_sets={"l": LABELS})
    record = Envelope(Position("in", 0, 0), 1, None, (), None, b'{"text": "x"}', None)
    changed = LabelSet("l", (Facet("g", Kind.SINGLE, (Label("c"), Label("d"))),))
    before = decoder.decode(record)
    decoder.use({"l": changed})
    after = decoder.decode(record)
    assert isinstance(before, Document)
    assert isinstance(after, Document)
    assert before.label_set is LABELS
    assert after.label_set is changed


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "null_value"),
        (b"", "not_json"),
        (b"plain words", "not_json"),
        (b'{"text": "cut', "not_json"),
        (b'{"text": "\xff"}', "not_json"),
        (b'{"text": NaN}', "not_json"),
        (b"[" * 2000, "value_too_large"),
        (b"[" * 900, "not_json"),
        (b'{"body": "x"}', "no_text"),
        (b'{"text": null}', "no_text"),
        (b'{"text": "  \\n "}', "no_text"),
        (b"[]", "no_text"),
        (b'"text"', "no_text"),
        (b'{"text": 3}', "text_not_string"),
        (b'{"text": true}', "text_not_string"),
        (b'{"text": ["a"]}', "text_not_string"),
        (b'{"text": {"a": 1}}', "text_not_string"),
    ],
)
def test_bad_records_are_rejects(value: bytes | None, code: str) -> None:
    decoded = decode(value)
    assert isinstance(decoded, Reject)
    assert decoded.code == code
    assert decoded.message


@pytest.mark.parametrize(
    ("pointers", "value", "text"),
    [
        (("/text",), {"text": "hello"}, "hello"),
        (("/subject", "/body"), {"subject": "a", "body": "b"}, "a\nb"),
        (("/subject", "/body"), {"subject": "", "body": "b"}, "b"),
        (("/subject", "/body"), {"body": "b"}, "b"),
        (("/user/posts/1",), {"user": {"posts": ["x", "y"]}}, "y"),
        (("/a~1b/c~0d",), {"a/b": {"c~d": "z"}}, "z"),
        (("",), "whole", "whole"),
    ],
)
def test_pointers(pointers: tuple[str, ...], value: object, text: str) -> None:
    assert decode(orjson.dumps(value), stream(*pointers)) == Document(text, LABELS)


@pytest.mark.parametrize("part", ["9", "-1", "x", "²", "99999999999"])
def test_pointers_past_an_array_find_nothing(part: str) -> None:
    decoded = decode(b'{"a": ["x"]}', stream(f"/a/{part}"))
    assert isinstance(decoded, Reject)
    assert decoded.code == "no_text"


def test_plain_text() -> None:
    assert decode("grüße".encode(), stream(parse_json=False)) == Document("grüße", LABELS)
    for value, code in ((b"\xff\xfe", "not_utf8"), (b" \n", "empty_text")):
        decoded = decode(value, stream(parse_json=False))
        assert isinstance(decoded, Reject)
        assert decoded.code == code


@pytest.mark.parametrize(("levels", "passes"), [(1022, True), (1023, True), (1024, False)])
def test_json_that_only_just_can_be_read_is_not_passed_on(levels: int, passes: bool) -> None:
    """In an event it would stand one level deeper, where nobody could read it any more."""
    value = b'{"text": "a", "deep": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"
    orjson.loads(value)
    decoded = decode(value, stream(pass_payload=True, max_value_bytes=5000))
    assert isinstance(decoded, Document) is passes
    if isinstance(decoded, Reject):
        assert decoded.code == "too_deep"
    assert isinstance(decode(value, stream(max_value_bytes=5000)), Document)


def test_flat_json_of_many_brackets_is_not_deep() -> None:
    value = b'{"text": "a", "wide": [' + b"[]," * 2000 + b"[]]}"
    assert isinstance(decode(value, stream(pass_payload=True, max_value_bytes=9000)), Document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.one_of(st.binary(max_size=300), st.dictionaries(st.sampled_from(["text", "a"]), JSON).map(
    lambda value: repr(value).replace("'", '"').encode("utf-8", "replace")
)))  # fmt: skip
def test_nothing_raises(value: bytes) -> None:
    assert isinstance(decode(value), Document | Reject)
