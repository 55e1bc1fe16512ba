"""What every fault test needs around its processes: filled topics, those who look on, and reading it all at the end.

Enters: an address, how many records, how processes are to work. Leaves: progress meanwhile, and then the Evidence.
Must not know: what is done to processes and brokers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from load_tests.faults.evidence import Evidence
from load_tests.faults.fleet import Fleet
from load_tests.faults.journal import Journal
from load_tests.faults.traffic import TOPICS, Work, as_input, as_seen, records
from load_tests.faults.watch import Offsets, Sampler, Watcher, stopping, transactions_end
from load_tests.harness import REQUEST_S, fresh_names, produce
from load_tests.reading import read_all
from streamer.records import Partition

HANGING_S = 60.0  # for transactions that were left open to be ended by the broker
OUTPUTS = ("out", "alarm", "dead")


@dataclass(frozen=True, slots=True)
class Scene:
    """A run under way. `work` tells processes apart from nothing but what they are given in common."""

    bootstrap_servers: str
    names: Mapping[str, str]
    work: Work
    journal: Journal
    watcher: Watcher
    sampler: Sampler
    offsets: Offsets
    inputs: Sequence[Partition]
    written: Sequence[Partition]
    records: int

    @property
    def done(self) -> bool:
        """Everything is committed."""
        return sum(self.sampler.committed.values()) >= self.records

    def evidence(self, fleet: Fleet) -> Evidence:
        """End all processes with SIGTERM, and read everything. Raises LoadTestError when that cannot be done."""
        self.journal.note("all get SIGTERM", "all")
        fleet.stop_all()
        self.sampler.stop()
        self.watcher.finish(transactions_end(self.offsets, self.written, HANGING_S), REQUEST_S)
        return Evidence(
            inputs=dict(map(as_input, read_all(self.bootstrap_servers, self.names["in"]))),
            seen=[
                as_seen(message, self.names["dead"], self.journal.clock())
                for name in OUTPUTS
                for message in read_all(self.bootstrap_servers, self.names[name])
            ],
            watched=self.watcher.seen,
            samples=self.sampler.samples,
            final=self.offsets.committed(self.inputs, REQUEST_S),
            versions=dict.fromkeys(fleet.writers, self.work.version()),
            disruptions=fleet.disruptions,
            memory=fleet.memory,
            stops=fleet.stops,
        )


@contextmanager
def scene(
    bootstrap_servers: str,
    *,
    partitions: int,
    count: int,
    seed: int,
    folder: Path,
    work: Callable[[Mapping[str, str]], Work],
) -> Iterator[Scene]:
    """Topics with `count` records drawn from `seed`, and those who look on; all is gone when the context ends."""
    journal = Journal(folder / "events.jsonl")
    with fresh_names(bootstrap_servers, partitions=partitions, topics=TOPICS) as names:
        sent = produce(bootstrap_servers, names["in"], records(count, seed))
        offsets = Offsets(bootstrap_servers, names["group"])
        inputs = offsets.partitions([names["in"]], REQUEST_S)
        written = offsets.partitions([names[name] for name in OUTPUTS], REQUEST_S)
        watcher = Watcher(
            bootstrap_servers=bootstrap_servers, partitions=written, dead_letters=names["dead"], clock=journal.clock
        )
        sampler = Sampler(offsets=offsets, inputs=inputs, written=written, clock=journal.clock)
        with stopping(watcher, sampler):
            yield Scene(
                bootstrap_servers=bootstrap_servers,
                names=names,
                work=work(names),
                journal=journal,
                watcher=watcher,
                sampler=sampler,
                offsets=offsets,
                inputs=inputs,
                written=written,
                records=sent,
            )
