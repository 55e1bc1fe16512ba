"""`streamer labels suggest` from its first line to its last.

Enters: what the command line says. Leaves: a table, JSON, or a block of settings. Must not know: Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import orjson
from rich.console import Console

from streamer.app import build_embedder
from streamer.errors import UsageError
from streamer.labels.suggest import settings_block, show_suggestion, suggest
from streamer.labels.texts import sample_texts, texts_in_columns
from streamer.settings import build_model_settings
from streamer.tables import count_rows, require_readable
from streamer.terminal import progress_bar


def run_suggest(
    *,
    source: Path,
    columns: Sequence[str],
    count: int | None,
    most: int,
    sample: int,
    model: str,
    device: str,
    seed: int,
    form: Literal["table", "yaml", "json"],
    console: Console,
    out: Console,
) -> None:
    """Read, suggest, print. Raises UsageError for a file or a model that will not do."""
    require_readable(source)
    find_text = texts_in_columns(source, columns)
    with progress_bar(console, f"reading {source.name}", count_rows(source)) as advance:
        texts = sample_texts(source, find_text, most=sample, seed=seed, advance=advance)
    embedder = build_embedder(build_model_settings({"name": model, "device": device}))
    if embedder is None:
        raise UsageError(f"model '{model}' makes no vectors of texts; leave --model out to use the bundled one")
    found = suggest(texts, embedder, count=count, most=most, seed=seed, console=console)
    if form == "json":
        print(orjson.dumps(found.as_dict()).decode())
    elif form == "yaml":
        print(settings_block(found), end="")
    else:
        show_suggestion(out, found)
