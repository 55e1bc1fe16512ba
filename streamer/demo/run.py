"""`streamer demo`: an embedded broker, the shipped records, and the same road that `streamer run` takes.

With its page kept open the records come slowly, a few a second, for somebody who watches.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from threading import Event

import orjson
from rich.console import Console
from rich.live import Live

from streamer.app import Connection, connect
from streamer.demo.records import TOPICS, DemoRecord, demo_records, gold_labels
from streamer.demo.show import DemoObserver
from streamer.engine.base import ModelInfo
from streamer.errors import FatalError
from streamer.feed import BUFFER_MEMORY_MB, Pace
from streamer.records import Outbound
from streamer.serving import serve
from streamer.settings import Settings, load_settings
from streamer.transport.base import DeliveryOutcome
from streamer.transport.kafka_sink import KafkaSink

WATCHED_RECORDS_PER_S = 10.0


def settings_path() -> Path:
    """The demo's settings file, a good one to copy."""
    return Path(str(files("streamer.demo") / "demo.yaml"))


def run_demo(*, console: Console, as_json: bool, keep_page: bool, stop: Event) -> bool:
    """Run the demo; prints as it goes, and the figures as a last line of JSON if asked. True when none was lost.

    With `keep_page` it lasts until `stop` is set, else until the last record has ended.
    """
    settings = _with_texts(load_settings(settings_path()))
    records = demo_records()
    models: list[ModelInfo] = []
    sending: list[Future[None]] = []
    observer = DemoObserver(
        expected=len(records), topics=TOPICS, gold=gold_labels(), on_end=(lambda: None) if keep_page else stop.set
    )
    with connect(settings) as connection, ThreadPoolExecutor(1, thread_name_prefix="feed") as feed:
        console.print(f"embedded broker at {connection.bootstrap_servers}, settings {settings_path()}")
        if not keep_page:
            _produce(records, connection, rate=None, stop=stop)

        def on_model(model: ModelInfo) -> None:
            models.append(model)
            if keep_page:
                sending.append(feed.submit(_produce, records, connection, rate=WATCHED_RECORDS_PER_S, stop=stop))

        def on_page(address: str) -> None:
            console.print(f"live page at {address}{', until Ctrl-C' if keep_page else ''}")

        with Live(observer, console=console, refresh_per_second=8, transient=False):
            serve(
                settings,
                connection=connection,
                stop=stop,
                observers=[observer],
                settings_path=None,
                on_model=on_model,
                on_page=on_page,
            )
        for one in sending:
            one.result()
    observer.print_summary(console)
    if as_json:
        model = f"{models[0].name}@{models[0].revision}" if models else settings.model.name
        # not through the console, which wraps lines
        print(orjson.dumps(observer.figures(model)).decode(), flush=True)
    return observer.published_records + observer.dead_lettered_records == len(records)


def _with_texts(settings: Settings) -> Settings:
    """The same, with texts on the page: the demo's are the project's own. Not in the file, which people copy."""
    return settings.model_copy(update={"page": settings.page.model_copy(update={"show_text": True})})


def _produce(records: Sequence[DemoRecord], connection: Connection, *, rate: float | None, stop: Event) -> None:
    """Send the records, `rate` a second (None: at once), until `stop` is set; raises FatalError when the embedded
    broker does not take every one."""
    pace = Pace(rate=rate, clock=time.monotonic, sleep=time.sleep)
    sink = KafkaSink(
        bootstrap_servers=connection.bootstrap_servers,
        properties=connection.properties,
        buffer_memory_mb=BUFFER_MEMORY_MB,
        topics={},
    )
    outcomes: list[DeliveryOutcome] = []
    for record in records:
        pace.wait()
        if stop.is_set():
            break
        sink.send(Outbound(record.topic, record.key, record.value, (), None, dead_letter=False), outcomes.append)
    while sink.flush(1.0):
        pass
    sink.close()
    failed = [outcome for outcome in outcomes if outcome is not None]
    if failed:
        raise FatalError(f"the embedded broker refused {len(failed)} records: {failed[0]}")
