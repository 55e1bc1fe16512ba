"""What the codes of dead letters mean, and what to do about each.

Enters: a code. Leaves: words for an operator. Must not know: where dead letters come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is wrong with the record, and what mends it. `redrive_helps`: sending the same bytes again can succeed,
    once the cause is mended."""

    meaning: str
    remedy: str
    redrive_helps: bool


EXPLANATIONS: Mapping[str, Explanation] = {
    "null_value": Explanation(
        "The record has no value at all: a tombstone of a compacted topic, or a producer's mistake.",
        "Nothing can be labelled. Let the producer send a value, or send tombstones to another topic.",
        redrive_helps=False,
    ),
    "value_too_large": Explanation(
        "The value is larger than streams[].max_value_bytes allows.",
        "Raise max_value_bytes of the stream, restart and redrive; or let the producer send less.",
        redrive_helps=True,
    ),
    "not_utf8": Explanation(
        "The text is not UTF-8: another encoding, compressed, or a binary format such as Avro or Protobuf.",
        "Let the producer send UTF-8. The bytes stay what they are, so sending them again does not help.",
        redrive_helps=False,
    ),
    "not_json": Explanation(
        "The stream expects JSON (format: json), and the value is not: cut off, or some other format.",
        "If the whole value is the text, set format: text for the stream, restart and redrive; else mend the producer.",
        redrive_helps=True,
    ),
    "too_deep": Explanation(
        "The JSON is nested so deep that an event which repeats it (pass_payload: true) could not be read any more.",
        "Set pass_payload: false for the stream, restart and redrive; or let the producer send flatter JSON.",
        redrive_helps=True,
    ),
    "no_text": Explanation(
        "None of the places named by streams[].text holds any text: missing, null or blank.",
        "If the text stands elsewhere, add its JSON pointer to streams[].text, restart and redrive.",
        redrive_helps=True,
    ),
    "text_not_string": Explanation(
        "A place named by streams[].text holds a number, an array or an object instead of a string.",
        "Point streams[].text at the string itself (e.g. /body/0/text), restart and redrive.",
        redrive_helps=True,
    ),
    "empty_text": Explanation(
        "There is nothing but white space to label.",
        "Nothing can be labelled. If the text stands elsewhere, correct the stream's settings and redrive.",
        redrive_helps=True,
    ),
    "extra_fields": Explanation(
        "A row of a csv file has more fields than its header names; dead letters of a topic never bear this code.",
        "Quote the field that holds the separator.",
        redrive_helps=False,
    ),
    "output_refused": Explanation(
        "The record was labelled, but the broker refused the event: too large, without a key for a compacted topic, "
        "or with a timestamp out of bounds. The message says which.",
        "Raise max.message.bytes of the output topic, set pass_payload: false or timestamp: now for the stream, or "
        "give the records keys; then redrive.",
        redrive_helps=True,
    ),
    "engine_out_of_memory": Explanation(
        "The model ran out of memory on this record alone.",
        "Free memory on the device, or use a larger one or a smaller model (model.max_row_tokens bounds a text); "
        "then redrive.",
        redrive_helps=True,
    ),
    "engine_not_finite": Explanation(
        "The model's scores for this text are not numbers: usually too little range in the data type.",
        "Set model.dtype: float32, or use another model; restart and redrive. Tell the model's makers of the text.",
        redrive_helps=True,
    ),
}

UNKNOWN = Explanation(
    "This version does not know the code: it was written by another version, or by something else.",
    "Read the message; explain it with the version of streamer that wrote it.",
    redrive_helps=True,
)


def explain_code(code: str) -> Explanation:
    return EXPLANATIONS.get(code, UNKNOWN)
