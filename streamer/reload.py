"""Label sets that change while the loop runs.

Enters: the settings file and the files of label sets and calibrations that it may name, read again every few seconds.
Leaves: label sets that are valid, whose topics exist and that the model has scored with, offered to the loop; or one
reason why not, and then the last good ones stay. Must not know: Kafka clients, models.

A thread of its own does this, since the loop may neither read files nor wait for the model. It compares what the files
hold and watches nothing else: Kubernetes changes a mounted file by swapping a link above it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from streamer.errors import StreamerError, UsageError
from streamer.facets import LabelSet
from streamer.settings import Settings, load_settings

LONGEST_RETRY_S = 60.0
NAMED_CHANGES = 3
_STOP_S = 1.0


class RestartNeededError(UsageError):
    """Settings that are good, but differ from those in use in what cannot change while running."""


@dataclass(frozen=True, slots=True)
class _Retry:
    """Files that could not be taken up for a reason outside them, and when to try again."""

    digest: bytes
    due_s: float
    wait_s: float


@contextmanager
def reloading(
    settings: Settings,
    *,
    path: Path | None,
    label_sets: Mapping[str, LabelSet],
    take_up_topics: Callable[[Settings], None],
    warm_up: Callable[[Sequence[LabelSet]], None],
    failed: Callable[[str], None],
) -> Iterator[Callable[[], Mapping[str, LabelSet] | None]]:
    """Where the loop finds new label sets, see `Reloader`; always nothing where the settings forbid it, or where they
    come from no file (None, or a pipe) that could be read again."""
    if path is None or not path.is_file() or not settings.reload.enabled:
        yield lambda: None
        return
    reloader = Reloader(
        path=path,
        settings=settings,
        label_sets=label_sets,
        interval_s=settings.reload.interval_s,
        take_up_topics=take_up_topics,
        warm_up=warm_up,
        failed=failed,
        clock=time.monotonic,
    )
    reloader.start()
    try:
        yield reloader.take
    finally:
        reloader.stop()


class Reloader:
    """Looks at the files of `settings`, loaded from `path`, every `interval_s` seconds from `start` to `stop`.

    `take_up_topics` makes sure that the topics of new settings can be written, `warm_up` that the model serves new
    label sets; both raise a StreamerError where that is not so, and are tried again later with the same files.
    `failed` is told why a change was refused, once for each content and reason; what is taken up next mends that, be it
    what was in use before. All three are called on this thread.
    `clock` is monotonic seconds.
    """

    def __init__(
        self,
        *,
        path: Path,
        settings: Settings,
        label_sets: Mapping[str, LabelSet],
        interval_s: float,
        take_up_topics: Callable[[Settings], None],
        warm_up: Callable[[Sequence[LabelSet]], None],
        failed: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._log = structlog.get_logger()
        self._path = path
        self._settings = settings
        self._files = _files(path, settings)
        self._versions = _versions(label_sets)
        self._interval_s = interval_s
        self._take_up_topics = take_up_topics
        self._warm_up = warm_up
        self._failed = failed
        self._clock = clock
        self._seen = self._done = b""  # digests: of the last look, and of what needs no further look
        self._retry: _Retry | None = None
        self._told: tuple[bytes, str] | None = None
        self._offers: deque[Mapping[str, LabelSet]] = deque(maxlen=1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def take(self) -> Mapping[str, LabelSet] | None:
        """New label sets by name, once for every change; None when there are none. For the loop: costs nothing."""
        return self._offers.popleft() if self._offers else None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, without waiting long for a broker or a model; nothing is called after it notices."""
        self._stop.set()
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.look()

    def look(self) -> None:
        """Read the files once; what was found the same twice and is new is taken up or refused.

        Twice, because a file can be missing or half written for a moment, and half a file may look like a good one.
        """
        held = {file: _read(file) for file in self._files}
        digest = _digest(held.values())
        settled, self._seen = digest == self._seen, digest
        if not settled or digest == self._done:
            return
        if self._retry is None or self._retry.digest != digest or self._clock() >= self._retry.due_s:
            self._consider(digest, held)

    def _consider(self, digest: bytes, held: Mapping[Path, bytes | OSError]) -> None:
        asked: dict[Path, bytes | OSError] = {}

        def read(file: Path) -> bytes:
            asked[file] = held[file] if file in held else _read(file)
            return _bytes(asked[file])

        outcome = self._load(read)
        if asked.keys() - held.keys() and not isinstance(outcome, RestartNeededError):
            self._files = list({**held, **asked})  # calibrations named only now are looked at twice, as all files are
            self._seen = b""
            return
        if isinstance(outcome, Exception):
            self._done = digest  # the same files will always be refused
            self._tell(digest, outcome)
            return
        try:
            self._take_up(outcome.build_label_sets(), outcome)
        except Exception as error:
            self._try_again_later(digest)
            self._tell(digest, error)
        else:
            self._done = digest

    def _load(self, read: Callable[[Path], bytes]) -> Settings | Exception:
        try:
            settings = load_settings(self._path, read=read)
            self._refuse_other_changes(settings)
        except Exception as error:  # whatever it is, it must not end this thread unheard
            return error
        return settings

    def _try_again_later(self, digest: bytes) -> None:
        last = self._retry
        wait_s = self._interval_s
        if last is not None and last.digest == digest:
            wait_s = min(2 * last.wait_s, LONGEST_RETRY_S)
        self._retry = _Retry(digest, self._clock() + wait_s, wait_s)

    def _refuse_other_changes(self, settings: Settings) -> None:
        changed = list(_changes(_outside_label_sets(self._settings), _outside_label_sets(settings), ""))
        if changed:
            more = f" and {len(changed) - NAMED_CHANGES} more" if len(changed) > NAMED_CHANGES else ""
            named = ", ".join(changed[:NAMED_CHANGES])
            raise RestartNeededError(f"{self._path}: restart needed: {named}{more} changed")

    def _take_up(self, label_sets: Mapping[str, LabelSet], settings: Settings) -> None:
        versions = _versions(label_sets)
        if versions == self._versions and self._told is None:
            self._log.debug("settings read again: nothing that decides labels has changed")
            return
        self._take_up_topics(settings)
        if self._stop.is_set():
            return
        self._warm_up(list(label_sets.values()))
        self._offers.append(label_sets)
        self._versions = versions
        self._told = None

    def _tell(self, digest: bytes, error: Exception) -> None:
        reason = str(error) if isinstance(error, StreamerError) else f"{type(error).__name__}: {error}"
        if self._told != (digest, reason) and not self._stop.is_set():
            self._told = digest, reason
            self._failed(reason)


def _files(path: Path, settings: Settings) -> list[Path]:
    """The settings file and what it names that belongs to label sets."""
    named = [settings.label_sets_file, *(one.calibration for one in settings.label_sets.values())]
    return [path, *(path.parent / name for name in named if name is not None)]


def _versions(label_sets: Mapping[str, LabelSet]) -> dict[str, str]:
    return {name: label_set.version for name, label_set in label_sets.items()}


def _outside_label_sets(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(exclude={"label_sets"})


def _changes(before: Any, after: Any, place: str) -> Iterator[str]:
    """Places, with dots, at which two settings differ; never the values, which may be secrets."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from _changes(before.get(key), after.get(key), f"{place}.{key}" if place else str(key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _changes(one, other, f"{place}.{index}")
    elif before != after:
        yield place


def _read(file: Path) -> bytes | OSError:
    try:
        return file.read_bytes()
    except OSError as error:
        return error


def _bytes(held: bytes | OSError) -> bytes:
    if isinstance(held, OSError):
        raise held
    return held


def _digest(contents: Iterable[bytes | OSError]) -> bytes:
    """Digest of what files hold, or of why they cannot be read."""
    digest = hashlib.sha256()
    for held in contents:
        read = isinstance(held, bytes)
        one = held if isinstance(held, bytes) else str(held).encode()
        digest.update(b"%d %d:" % (read, len(one)) + one)
    return digest.digest()
