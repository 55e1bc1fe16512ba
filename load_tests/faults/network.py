"""A bad network between `streamer run` and its brokers: nothing lost, and nothing twice under exactly_once.

    python -m load_tests.faults.network [--delivery exactly_once] [--records 60000]

Three brokers are started for the run, and toxiproxy between them and the processes: their listener PROXIED sends
clients to it. Topics are read and offsets sampled past the proxy. One trouble follows the other: latency with jitter,
little bandwidth, cut connections, connections that stay open and silent, resets, slow closes. After each the network
is whole until records come out again. Exit code 1 when an invariant was broken or the run did not recover.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from load_tests.faults.checker import judge
from load_tests.faults.cluster import NODES, Cluster, three_brokers
from load_tests.faults.evidence import Delivery, Rules, Verdict
from load_tests.faults.fleet import Fleet, causes
from load_tests.faults.report import delivery_named, show_verdict
from load_tests.faults.scene import Scene, scene
from load_tests.faults.toxiproxy import Toxiproxy, toxiproxy
from load_tests.faults.traffic import Work
from load_tests.faults.watch import stopping
from load_tests.harness import LoadTestError, exit_with

PARTITIONS = 6
SLOTS = ("slot0", "slot1")
SESSION_TIMEOUT_MS = 6000
SERVICE_TIME_MS = 8.0
WINDOW_RECORDS = 64
UNCOMMITTED_RECORDS = 500
GRACE_S = 60.0
DRAIN_S = 10.0
MEMORY_MB = 400.0
TICK_S = 0.02
STEADY_S = 5.0
RECOVER_S = 120.0
FINISH_S = 600.0
BOTH = ("upstream", "downstream")


@dataclass(frozen=True, slots=True)
class Trouble:
    """What befalls the connections to `nodes` for so long. Without a toxic they are cut. `restart`: a process is
    told to end meanwhile, and its connections close."""

    name: str
    seconds: float
    toxic: str | None
    attributes: Mapping[str, int]
    nodes: Sequence[int]
    restart: bool


TROUBLES = (
    Trouble("latency of 300 ms, jitter 200 ms", 10, "latency", {"latency": 300, "jitter": 200}, NODES, False),
    Trouble("20 KB/s a connection", 10, "bandwidth", {"rate": 20}, NODES, False),
    Trouble("one broker cut off", 8, None, {}, NODES[:1], False),
    Trouble("all cut off, shorter than the session", 3, None, {}, NODES, False),
    Trouble("all cut off, longer than the session", 12, None, {}, NODES, False),
    Trouble("one broker open but silent", 10, "timeout", {"timeout": 0}, NODES[1:2], False),
    Trouble("all open but silent, longer than the session", 12, "timeout", {"timeout": 0}, NODES, False),
    Trouble("connections reset after 100 ms", 5, "reset_peer", {"timeout": 100}, NODES, False),
    Trouble("closes take 3 s, a process restarts", 10, "slow_close", {"delay": 3000}, NODES, True),
)


@dataclass(frozen=True, slots=True)
class Recovery:
    """`recovery_s`: from the end of a trouble until a record came out; `exits`: processes that ended by themselves
    from its beginning on."""

    trouble: str
    seconds: float
    came_out_meanwhile: int
    recovery_s: float
    exits: int


def main(
    delivery: Annotated[str, typer.Option(help="exactly_once or at_least_once.")] = "exactly_once",
    records: Annotated[int, typer.Option(min=1000, help="How many; enough to last through all troubles.")] = 60_000,
    seed: Annotated[int, typer.Option(help="Of the records.")] = 1,
    folder: Annotated[Path, typer.Option(help="Where a folder for this run is made.")] = Path("runs"),
) -> None:
    """Spoil the network in many ways, and judge what came of it."""
    exit_with(lambda: run_network(Console(stderr=True), delivery_named(delivery), records, seed, folder))


def run_network(console: Console, delivery: Delivery, records: int, seed: int, folder: Path) -> bool:
    """True when all went well; prints tables, and the figures as the last line."""
    place = folder / time.strftime(f"network-{delivery}-%Y%m%d-%H%M%S")
    place.mkdir(parents=True)
    console.print(f"events and logs: {place}")
    with (
        TemporaryDirectory() as home,
        toxiproxy(place / "toxiproxy.log") as network,
        three_brokers(Path(home)) as cluster,
    ):
        proxied = _proxied(cluster, network)
        with scene(
            cluster.bootstrap_servers,
            partitions=PARTITIONS,
            count=records,
            seed=seed,
            folder=place,
            work=lambda names: _work(proxied, names, delivery),
        ) as around:
            fleet = Fleet(
                slots=SLOTS,
                waiting=[],
                settings=around.work.settings,
                folder=place,
                journal=around.journal,
                grace_s=GRACE_S,
            )
            with stopping(fleet):
                recoveries = [_suffer(trouble, around, fleet, network) for trouble in TROUBLES]
                _tick_for(fleet, FINISH_S, around, until_done=True)
                found = around.evidence(fleet)
    rules = Rules(delivery=delivery, max_uncommitted_records=UNCOMMITTED_RECORDS, memory_mb=MEMORY_MB, grace_s=GRACE_S)
    verdict = judge(found, rules)
    _show(console, recoveries, verdict)
    told = {
        "recoveries": recoveries,
        "causes": causes(around.journal),
        "samples_missed": dict(around.sampler.missed),
        **verdict.as_json(),
    }
    (place / "verdict.json").write_bytes(orjson.dumps(told))
    print(orjson.dumps(told).decode(), flush=True)
    return verdict.holds


def _proxied(cluster: Cluster, network: Toxiproxy) -> str:
    """A proxy for each broker's listener PROXIED; returns where they listen."""
    for node in NODES:
        network.proxy(_name(node), listen=cluster.proxy_port(node), upstream=cluster.proxied_port(node))
    return ",".join(f"127.0.0.1:{cluster.proxy_port(node)}" for node in NODES)


def _name(node: int) -> str:
    return f"broker{node}"


def _work(proxied: str, names: Mapping[str, str], delivery: Delivery) -> Work:
    return Work(
        bootstrap_servers=proxied,
        names=names,
        delivery=delivery,
        static_members=False,
        session_timeout_ms=SESSION_TIMEOUT_MS,
        service_time_ms=SERVICE_TIME_MS,
        window_records=WINDOW_RECORDS,
        max_uncommitted_records=UNCOMMITTED_RECORDS,
        drain_timeout_s=DRAIN_S,
    )


def _suffer(trouble: Trouble, around: Scene, fleet: Fleet, network: Toxiproxy) -> Recovery:
    """One trouble, from a network that has been whole for a while to records coming out again."""
    journal = around.journal
    _tick_until_news(fleet, around)
    _tick_for(fleet, STEADY_S, around)
    if around.done:
        raise LoadTestError("all records came out before all troubles had come; give more --records")
    exits, before, began_s = journal.count("ended by itself"), around.watcher.ended, journal.clock()
    journal.note("trouble", "network", trouble.name)
    fleet.disturb_all()
    for node in trouble.nodes:
        if trouble.toxic is None:
            network.cut(_name(node))
        else:
            for stream in BOTH:
                network.spoil(_name(node), trouble.toxic, stream, trouble.attributes)
    if trouble.restart:
        fleet.terminate(SLOTS[0], restart=True)
    _tick_for(fleet, trouble.seconds, around)
    seconds, meanwhile = journal.clock() - began_s, around.watcher.ended - before
    network.mend()
    mended_s = journal.clock()
    journal.note("mended", "network", trouble.name)
    _tick_until_news(fleet, around)
    return Recovery(
        trouble=trouble.name,
        seconds=round(seconds, 1),
        came_out_meanwhile=meanwhile,
        recovery_s=round(journal.clock() - mended_s, 1),
        exits=journal.count("ended by itself") - exits,
    )


def _tick_until_news(fleet: Fleet, around: Scene) -> None:
    before, deadline_s = around.watcher.ended, time.monotonic() + RECOVER_S
    while around.watcher.ended == before and not around.done:
        if time.monotonic() > deadline_s:
            raise LoadTestError(f"nothing came out for {RECOVER_S:g} s on a whole network")
        fleet.tick()
        time.sleep(TICK_S)


def _tick_for(fleet: Fleet, seconds: float, around: Scene, *, until_done: bool = False) -> None:
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s and not (until_done and around.done):
        fleet.tick()
        time.sleep(TICK_S)


def _show(console: Console, recoveries: Sequence[Recovery], verdict: Verdict) -> None:
    table = Table(title="troubles", title_justify="left")
    for name in ("trouble", "s", "came out meanwhile", "recovery, s", "exits"):
        table.add_column(name, justify="left" if name == "trouble" else "right")
    for one in recoveries:
        counts: tuple[Any, ...] = (one.seconds, one.came_out_meanwhile, one.recovery_s, one.exits)
        table.add_row(Text(one.trouble), *map(str, counts))
    console.print(table)
    show_verdict(console, verdict)


if __name__ == "__main__":
    typer.run(main)
