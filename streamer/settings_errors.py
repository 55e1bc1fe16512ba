"""A wrong setting as one line: what, where, what to do.

Enters: pydantic's ValidationError. Leaves: text. Must not know: which settings there are.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

# keys whose values others must not read, and what pydantic says of text that stands where a mapping should: a secret
# that was written without `{file: ...}` around it, say
_SECRET_PLACES = frozenset({"properties", "headers", "token"})
_NOT_A_MAPPING = frozenset({"model_type", "model_attributes_type", "dict_type"})
_MOST_SHOWN = 100


def near(name: str, known: Iterable[str]) -> str:
    """' (did you mean ...?)', or nothing when no known name is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def first_places(error: ValidationError) -> list[tuple[str | int, ...]]:
    """The place of the problem that `one_line` tells, empty when it concerns several; where a key is missing, then the
    place of what lacks it."""
    first = error.errors(include_url=False)[0]
    # a union reports every branch: its tags in the path mean nothing to a reader
    place = tuple(part for part in first["loc"] if not _is_branch(part))
    return [place, place[:-1]] if first["type"] == "missing" else [place]


def one_line(error: ValidationError, root: type[BaseModel], *, below: int = 0) -> str:
    """The first problem in words, with its place under `root`, and how many more there are. A value that may be a
    secret is not repeated.

    `below` leaves out that many parts of the place.
    """
    problems = error.errors(include_url=False)
    first = problems[0]
    where = ".".join(str(part) for part in first_places(error)[0][below:])
    if first["type"] == "extra_forbidden":
        text = f"unknown key{near(str(first['loc'][-1]), _keys_at(root, first['loc'][:-1]))}"
    elif first["type"] == "missing":
        text = "is missing"
    elif first.get("ctx", {}).get("class_name") == "SecretRef":
        text = "no secret stands in the settings themselves; write {file: PATH} or {env: NAME}"
    else:
        text = first["msg"].removeprefix("Value error, ")
        shown = first["type"] not in {"value_error", "too_short", *_NOT_A_MAPPING}
        if shown and not isinstance(first["input"], dict | list) and _SECRET_PLACES.isdisjoint(first["loc"]):
            text += f" (it is {_shortened(first['input'])})"
    more = len({p["loc"] for p in problems}) - 1
    return f"{where}: {text}".removeprefix(": ") + (f" (and {more} more)" if more else "")


def _shortened(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}..."


def _is_branch(part: Any) -> bool:
    return isinstance(part, str) and (part in ("str", "int", "float", "bool", "SecretRef") or "[" in part)


def _keys_at(root: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Names of the settings that may stand at a place in the file."""
    model: Any = root
    for part in path:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            break
        if part not in model.model_fields:
            continue  # a name chosen by the user, or an index: the model below is already at hand
        model = model.model_fields[part].annotation
        for inner in get_args(model):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
