"""What the parts of the settings file share: their base, and types with rules of their own.

Enters: values of a settings file. Leaves: the same, or a ValueError that says what is wrong. Must not know: defaults.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A part of the settings file: immutable, and without keys that nothing reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _topic_name(name: str) -> str:
    """Kafka's rule for legal topic names."""
    legal = (
        0 < len(name) <= 249
        and name not in (".", "..")
        and all(c.isascii() and (c.isalnum() or c in "._-") for c in name)
    )
    if not legal:
        raise ValueError("not a legal Kafka topic name (letters, digits, '.', '_', '-'; at most 249)")
    return name


Topic = Annotated[str, AfterValidator(_topic_name)]
Score = Annotated[float, Field(ge=0, le=1)]
