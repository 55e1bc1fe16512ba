"""Which environment variable sets what, so that a wrong value is blamed on the variable and not on the file.

Enters: the process's environment, and the type of the settings. Leaves: names of variables, never their values.
Must not know: which settings there are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from streamer.errors import UsageError


class Overrides:
    """What each variable with the prefix of `settings_type` sets.

    Raises UsageError naming a variable whose value should be JSON and is not.
    """

    def __init__(self, settings_type: type[BaseSettings]) -> None:
        prefix = str(settings_type.model_config["env_prefix"])
        self._set: dict[str, dict[str, Any]] = {}
        for name, value in os.environ.items():
            if name.upper().startswith(prefix):
                content = _set_by(settings_type, name, value)
                if content:
                    self._set[name] = content

    @property
    def names(self) -> list[str]:
        return sorted(self._set)

    def of(self, place: Sequence[str | int]) -> str | None:
        """The variable that sets the value at this place, None when none does."""
        return next((name for name, content in self._set.items() if place and _holds(content, place)), None)

    def value(self, key: str) -> Any:
        """What a variable sets at the top level, None when none does."""
        return next((content[key] for content in self._set.values() if key in content), None)


def _set_by(settings_type: type[BaseSettings], name: str, value: str) -> dict[str, Any]:
    """What this variable alone sets."""
    source = EnvSettingsSource(settings_type)
    source.env_vars = {name.lower(): value}
    try:
        return source()
    except SettingsError:
        raise UsageError(f"{name}: not JSON, which a variable for a whole part of the settings must be") from None


def _holds(content: Any, place: Sequence[str | int]) -> bool:
    for part in place:
        try:
            content = content[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True
