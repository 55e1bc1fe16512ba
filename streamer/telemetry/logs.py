"""Logs: one line per event, as JSON or for a console, with secrets masked.

Enters: events of `structlog.get_logger()` anywhere in the package, warnings of libraries, and the loop's hooks.
Leaves: lines on a stream. The text, key and headers of records are never logged: records are named by position and
rejects by code, since a reject's message may quote its record. Must not know: metrics, HTTP, Kafka.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from typing import Any, Literal, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import Processor

from streamer.facets import LabelSet
from streamer.observe import Observer
from streamer.records import Envelope, Partition, Reject

MASK = "***"

_SECRET_KEY = re.compile(
    r"passw|passphrase|secret|token(?!i[sz])|credential|jaas|oauthbearer\.config|private[._-]?key|api[._-]?key|ssl\.key\.pem",
    re.IGNORECASE,
)
# secrets inside a text: `password="x"`, `{'sasl.password': 'x'}`, `https://user:x@host`
_SECRET_ASSIGNED = re.compile(
    r"""((?:passw|passphrase|secret|token(?!s|i[sz])|api[._-]?key)[\w.-]*(?:\s*=\s*|['"]\s*:\s*(?=['"])))"""
    r"""("[^"]*"|'[^']*'|[^\s,;&)]+)""",
    re.IGNORECASE,
)
_SECRET_IN_URL = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")

# libraries that write to stderr by handlers of their own, installed when they are imported
_SELF_WILLED_LIBRARIES = ("transformers", "huggingface_hub")

_REJECTS_EVERY_S = 1.0


def mask_secrets(value: Any) -> Any:
    """The same value made of plain JSON types, with `***` for whatever stands under a key that names a secret.

    A number under a `...token...` key is a count, and stays. Bytes are shown by their size, other objects by their
    masked `repr`.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): MASK if _is_secret(str(key), item) else mask_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [mask_secrets(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    text = value if isinstance(value, str) else repr(value)
    return _SECRET_IN_URL.sub(rf"\1{MASK}", _SECRET_ASSIGNED.sub(rf"\1{MASK}", text))


def _is_secret(key: str, value: Any) -> bool:
    found = _SECRET_KEY.search(key)
    if found is None or value is None:
        return False
    return not (found.group().lower() == "token" and isinstance(value, int | float))


def _mask_event(logger: Any, method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    masked: dict[str, Any] = mask_secrets(event)
    return masked


class _Propagating(logging.Logger):
    """A library's logger that hands everything on, whatever the library sets up: these libraries are imported late,
    long after logs are configured."""

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802 - the standard library's name
        """Takes none."""

    @property
    def propagate(self) -> bool:
        return True

    @propagate.setter
    def propagate(self, value: bool) -> None:
        pass


def configure_logs(
    *, level: Literal["debug", "info", "warning", "error"], form: Literal["json", "console"], stream: TextIO
) -> None:
    """Send all logs of the process to `stream`: the package's from `level` on, libraries' from WARNING on.

    Times are ISO 8601 UTC; an exception is one field (`exception`: a list of type, value and frames in JSON, the
    traceback's text on a console), never with local variables, which hold texts. Handlers that others have installed
    are removed. Belongs to the start of a process; a later call replaces what an earlier one has set.
    """
    level_number = logging.getLevelNamesMapping()[level.upper()]
    stamp: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
    ]
    handler = logging.StreamHandler(stream)
    handler.setLevel(level_number)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*stamp, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(form, stream.isatty())],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level_number, logging.WARNING))
    for name in _SELF_WILLED_LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.__class__ = _Propagating
    logging.captureWarnings(True)
    ours = logging.getLogger("streamer")
    ours.setLevel(level_number)
    # by way of the standard library, whose handlers swallow a broken stream instead of ending the loop
    structlog.configure(
        processors=[*stamp, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level_number),
        logger_factory=lambda *_: ours,
        cache_logger_on_first_use=False,
    )


def _rendering(form: Literal["json", "console"], colors: bool) -> list[Processor]:
    if form == "json":
        transformer = ExceptionDictTransformer(show_locals=False)
        return [
            structlog.processors.ExceptionRenderer(transformer),
            _mask_event,
            structlog.processors.JSONRenderer(),
        ]
    return [
        structlog.processors.format_exc_info,
        _mask_event,
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback),
    ]


class LogObserver(Observer):
    """Logs what an operator wants to see of the loop; rejects at most once a second, counted by topic and code.

    `clock` is monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._log = structlog.get_logger()
        self._clock = clock
        self._started_at = clock()
        self._totals: Counter[str] = Counter()
        self._rejects: Counter[tuple[str, str]] = Counter()
        self._first_reject: dict[tuple[str, str], str] = {}
        self._report_rejects_at = clock()

    def started(self) -> None:
        self._started_at = self._clock()
        self._log.info("started")

    def assigned(self, partitions: Collection[Partition]) -> None:
        self._log.info("partitions assigned", partitions=_by_topic(partitions))

    def revoked(self, partitions: Collection[Partition], lost: bool) -> None:
        if lost:
            self._log.warning("partitions lost", partitions=_by_topic(partitions))
        else:
            self._log.info("partitions revoked", partitions=_by_topic(partitions))

    def consumed(self, topic: str, records: int) -> None:
        self._totals["consumed"] += records

    def published(self, topic: str, latencies_s: Sequence[float | None]) -> None:
        self._totals["published"] += len(latencies_s)

    def dead_lettered(self, topic: str, records: int) -> None:
        self._totals["dead_lettered"] += records

    def committed(self, partitions: int, seconds: float) -> None:
        self._totals["commits"] += 1

    def commit_failed(self) -> None:
        self._totals["commit_failures"] += 1

    def rewound(self, reason: str) -> None:
        self._totals["rewinds"] += 1
        self._log.warning("rewound: work since the last commit is read again", reason=reason)

    def reloaded(self, label_sets: Mapping[str, LabelSet]) -> None:
        self._log.info("label sets reloaded", versions={name: one.version for name, one in label_sets.items()})

    def reload_failed(self, reason: str) -> None:
        self._log.error("reload failed; the label sets stay as they are", reason=reason)

    def rejected(self, envelope: Envelope[Reject]) -> None:
        key = (envelope.position.topic, envelope.payload.code)
        self._rejects[key] += 1
        self._first_reject.setdefault(key, str(envelope.position))
        self._totals["rejected"] += 1

    def beat(self, stage: str) -> None:
        if self._rejects and self._clock() >= self._report_rejects_at:
            self._report_rejects()

    def stopped(self) -> None:
        if self._rejects:
            self._report_rejects()
        names = ("consumed", "published", "rejected", "dead_lettered", "commits", "commit_failures", "rewinds")
        totals = {name: self._totals[name] for name in names}
        self._log.info("stopped", ran_s=round(self._clock() - self._started_at, 3), **totals)

    def _report_rejects(self) -> None:
        rejects = [
            {"topic": topic, "code": code, "records": records, "first": self._first_reject[topic, code]}
            for (topic, code), records in self._rejects.items()
        ]
        self._log.warning("records rejected", rejects=rejects)
        self._rejects.clear()
        self._first_reject.clear()
        self._report_rejects_at = self._clock() + _REJECTS_EVERY_S


def _by_topic(partitions: Collection[Partition]) -> dict[str, list[int]]:
    out: dict[str, list[int]] = {}
    for topic, partition in sorted(partitions):
        out.setdefault(topic, []).append(partition)
    return out
