"""Every hook reaches every observer, in order, with what the loop said."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from streamer.observe import Observer, Observers

HOOKS = [name for name, _ in inspect.getmembers(Observer, inspect.isfunction) if not name.startswith("_")]


class Recorder(Observer):
    """Notes each call of a hook."""

    def __init__(self, name: str, calls: list[tuple[Any, ...]]) -> None:
        for hook in HOOKS:
            setattr(self, hook, lambda *arguments, hook=hook: calls.append((name, hook, *arguments)))


def test_there_are_hooks_for_delivery() -> None:
    assert {"beat", "committed", "commit_failed", "rewound", "reloaded", "reload_failed"} <= set(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_reaches_every_observer(hook: str) -> None:
    calls: list[tuple[Any, ...]] = []
    both = Observers(Recorder("one", calls), Observers(Recorder("other", calls)))
    arguments = [object() for _ in list(inspect.signature(getattr(Observer, hook)).parameters)[1:]]
    getattr(both, hook)(*arguments)
    assert calls == [("one", hook, *arguments), ("other", hook, *arguments)]
    getattr(Observer(), hook)(*arguments)
