"""What the parts of the settings file share: their base, and types with rules of their own.

Enters: values of a settings file. Leaves: the same, or a ValueError that says what is wrong. Must not know: defaults.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from streamer.errors import UsageError


class Part(BaseModel):
    """A part of the settings file: immutable, and without keys that nothing reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SecretRef(Part):
    """A value kept outside the settings file: the content of a file, or an environment variable."""

    file: Path | None = None
    env: str | None = None

    @model_validator(mode="after")
    def _one(self) -> SecretRef:
        if (self.file is None) == (self.env is None):
            raise ValueError("give either 'file' or 'env'")
        return self

    def read(self, named_by: str) -> str:
        """The secret; raises UsageError naming where it was looked for and what refers to it, never its content."""
        if self.env is not None:
            if self.env not in os.environ:
                raise UsageError(f"environment variable {self.env} is not set; {named_by} refers to it")
            return os.environ[self.env]
        try:
            return Path(str(self.file)).read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            raise UsageError(f"{self.file}: not UTF-8 text; {named_by} refers to it") from None
        except OSError as error:
            raise UsageError(f"{self.file}: {error.strerror}; {named_by} refers to it") from None


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
