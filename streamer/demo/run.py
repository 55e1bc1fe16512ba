"""`streamer demo`: an embedded broker, the shipped records, and the same road that `streamer run` takes."""

from __future__ import annotations

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
from streamer.feed import BUFFER_MEMORY_MB
from streamer.records import Outbound
from streamer.serving import serve
from streamer.settings import load_settings
from streamer.transport.base import DeliveryOutcome
from streamer.transport.kafka_sink import KafkaSink


def settings_path() -> Path:
    """The demo's settings file, a good one to copy."""
    return Path(str(files("streamer.demo") / "demo.yaml"))


def run_demo(*, console: Console, as_json: bool, stop: Event) -> bool:
    """Run the demo; prints as it goes, and the figures as a last line of JSON if asked. True when none was lost."""
    settings = load_settings(settings_path())
    records = demo_records()
    models: list[ModelInfo] = []
    observer = DemoObserver(expected=len(records), topics=TOPICS, gold=gold_labels(), stop=stop)
    with connect(settings) as connection:
        console.print(f"embedded broker at {connection.bootstrap_servers}, settings {settings_path()}")
        _produce(records, connection)
        with Live(observer, console=console, refresh_per_second=8, transient=False):
            serve(
                settings,
                connection=connection,
                stop=stop,
                observers=[observer],
                settings_path=None,
                on_model=models.append,
            )
    observer.print_summary(console)
    if as_json:
        model = f"{models[0].name}@{models[0].revision}" if models else settings.model.name
        # not through the console, which wraps lines
        print(orjson.dumps(observer.figures(model)).decode(), flush=True)
    return observer.published_records + observer.dead_lettered_records == len(records)


def _produce(records: list[DemoRecord], connection: Connection) -> None:
    """Send the records; raises FatalError when the embedded broker does not take every one."""
    sink = KafkaSink(
        bootstrap_servers=connection.bootstrap_servers,
        properties=connection.properties,
        buffer_memory_mb=BUFFER_MEMORY_MB,
        topics={},
    )
    outcomes: list[DeliveryOutcome] = []
    for record in records:
        sink.send(Outbound(record.topic, record.key, record.value, (), None, dead_letter=False), outcomes.append)
    while sink.flush(1.0):
        pass
    sink.close()
    failed = [outcome for outcome in outcomes if outcome is not None]
    if failed:
        raise FatalError(f"the embedded broker refused {len(failed)} records: {failed[0]}")
