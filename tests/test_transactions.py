"""Exactly once under everything that can go wrong, on the in-memory broker: a random course, and the cases by name."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import DeliveryError, RewindError, TransientError
from streamer.observe import Observer
from streamer.records import Envelope, Outbound, Partition, Position, Reject
from streamer.transactions import ExactlyOnce
from streamer.transport.base import DeliveryOutcome, GroupListener, Offsets, Refused
from streamer.transport.memory import MemorySource
from streamer.transport.memory_broker import MemoryBroker, Step
from streamer.transport.memory_transactions import MemoryTransactionalSink

INTERVAL_S = 0.1
KEY = {0: b"a", 1: b"b", 2: b"c"}


class Told(Observer):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.reasons: list[str] = []

    def published(self, topic: str, latencies_s: Sequence[float | None]) -> None:
        self.counts["published"] += len(latencies_s)

    def dead_lettered(self, topic: str, records: int) -> None:
        self.counts["dead"] += records

    def rewound(self, reason: str) -> None:
        self.reasons.append(reason)

    def committed(self, partitions: int, seconds: float) -> None:
        self.counts["committed"] += 1


class Member(GroupListener):
    """One consumer: reads, answers each record with one message in reading order, as the loop does."""

    def __init__(self, world: World) -> None:
        self.told = Told()
        self.source = MemorySource(broker=world.broker, group_id="g", topics=["in"], auto_offset_reset="earliest")
        self.sink = MemoryTransactionalSink(broker=world.broker, looks=world.looks)
        self.delivery = ExactlyOnce(
            source=self.source,
            sink=self.sink,
            observer=self.told,
            commit_interval_s=INTERVAL_S,
            most_bytes=16_000,
            longest_s=2.0,
            recover_s=1000.0,
            clock=world.clock,
        )
        self.under_way: list[Envelope[None] | Envelope[Reject]] = []
        self._world = world
        self.delivery.open()
        self.source.subscribe(self)

    def read(self, count: int) -> None:
        try:
            records = self.source.poll(count, 0)
        except TransientError:
            return
        if not self.delivery.rewinding:
            for one in records:
                reject = self.delivery.start([one]).get(one.position)
                self.under_way.append(one if reject is None else one.replace(reject))

    def answer(self, count: int) -> None:
        for one in self.under_way[:count]:
            if self.delivery.epochs().get(one.position.at) == one.epoch:
                topic = "out" if one.payload is None else "dead"
                value = str(one.position).encode() + self._world.value
                message = Outbound(topic, one.key, value, (), None, topic == "dead")
                self.delivery.send(one, [message])
        del self.under_way[:count]

    def go_on(self) -> None:
        if self.delivery.rewinding:
            self.under_way.clear()
            self.delivery.rewind()
        self.delivery.serve(0.0)
        self.delivery.commit_if_due(full=False)

    def on_assigned(self, partitions: object) -> None:
        """Nothing to do."""

    def on_revoked(self, partitions: object) -> None:
        self.answer(len(self.under_way))
        self.delivery.settle(self._world.now_s + self._world.drain_s)
        self.delivery.let_go(partitions)  # type: ignore[arg-type]

    def on_lost(self, partitions: object) -> None:
        self.delivery.let_go(partitions)  # type: ignore[arg-type]

    def on_committed(self, offsets: Offsets) -> None:
        raise AssertionError("the source commits nothing by itself")


class World:
    """A broker whose every commit is checked: outputs are exactly those of the records below the offsets."""

    def __init__(self, looks: int = 0, deliver: Callable[[Outbound], DeliveryOutcome] = lambda _: None) -> None:
        self.now_s = 0.0
        self.looks = looks
        self.drain_s = 1000.0
        self.value = b""
        self.faults: Counter[Step] = Counter()
        self.broker = MemoryBroker(
            partitions=3, max_message_bytes=1_000_000, now_ms=lambda: 0, fault=self.fault, deliver=deliver
        )
        self.broker.create_topic("in")

    def clock(self) -> float:
        self.now_s += 0.001
        return self.now_s

    def fault(self, step: Step) -> None:
        if self.faults[step]:
            self.faults[step] -= 1
            raise TransientError(f"fault at {step}")

    def fill(self, count: int) -> list[Position]:
        turn = itertools.cycle(range(3))
        return [self.broker.produce("in", b"v", key=KEY[p], partition=p) for p in itertools.islice(turn, count)]

    def ended(self) -> list[str]:
        """Ids in output and dead letters, in the order of each partition of theirs."""
        return [
            (m.value or b"").decode().rstrip("v")
            for topic in ("out", "dead")
            for m in self.broker.messages(topic).values()
        ]

    def check(self) -> None:
        """What a read_committed reader and the group see agree, at any moment."""
        ended = self.ended()
        assert len(ended) == len(set(ended)), "twice"
        below = set()
        for at in self.broker.partitions("in"):
            committed = self.broker.committed("g", at) or 0
            below |= {str(Position(*at, offset)) for offset in range(committed)}
        assert set(ended) == below, "outputs and committed offsets disagree"
        per_partition: dict[str, list[int]] = defaultdict(list)
        for stored in self.broker.messages("out").values():
            where, _, offset = (stored.value or b"").decode().rstrip("v").rpartition("-")
            per_partition[where].append(int(offset))
        assert all(offsets == sorted(offsets) for offsets in per_partition.values()), "out of order"

    def finish(self, member: Member, records: int) -> None:
        for _ in range(400):
            member.read(50)
            member.answer(50)
            member.go_on()
            self.now_s += INTERVAL_S
            if len(self.ended()) == records:
                break
        self.check()
        assert len(self.ended()) == records, "lost"


STEPS = st.one_of(
    st.tuples(st.just("read"), st.integers(1, 9)),
    st.tuples(st.just("answer"), st.integers(1, 9)),
    st.tuples(st.just("go_on"), st.just(0)),
    st.tuples(st.just("time"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["revoke", "lose", "assign"]), st.integers(0, 2)),
    st.tuples(
        st.just("fault"),
        st.sampled_from(["poll", "rewind", "begin", "transaction", "transaction done", "abort"]),
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=60), st.integers(0, 3), st.booleans(), st.sets(st.integers(0, 29), max_size=3))
def test_nothing_lost_nothing_twice_whatever_happens(
    course: list[tuple[str, int | str]], looks: int, hasty: bool, poison: set[int]
) -> None:
    """Every commit interval, rebalance, fault, lost answer and refused output, in any order."""
    refused: set[str] = set()

    def deliver(message: Outbound) -> DeliveryOutcome:
        return Refused("poison") if message.topic == "out" and (message.value or b"").decode() in refused else None

    world = World(looks, deliver)
    sent = world.fill(30)
    refused.update(str(sent[i]) for i in poison)
    world.drain_s = 0.0 if hasty else 1000.0
    member = Member(world)
    for action, value in course:
        at = Partition("in", int(value) if str(value).isdigit() else 0)
        match action:
            case "read":
                member.read(int(value))
            case "answer":
                member.answer(int(value))
            case "go_on":
                member.go_on()
            case "time":
                world.now_s += int(value) * INTERVAL_S / 2
            case "revoke":
                world.broker.revoke(member.source, [at])
            case "lose":
                world.broker.lose(member.source, [at])
            case "assign":
                world.broker.assign(member.source, [at])
            case "fault":
                world.faults[str(value)] += 1  # type: ignore[index]
        world.check()
    world.faults.clear()
    world.broker.assign(member.source, world.broker.partitions("in"))
    world.finish(member, 30)
    assert {(m.value or b"").decode().rstrip("v") for m in world.broker.messages("dead").values()} == refused


def test_a_transaction_waits_for_its_interval_and_takes_in_what_came_meanwhile() -> None:
    world = World(looks=2)
    world.fill(9)
    member = Member(world)
    member.read(9)
    member.answer(3)
    member.go_on()
    assert world.ended() == []
    world.now_s += INTERVAL_S
    member.go_on()
    member.answer(3)  # the transaction is closing: these wait for the next
    for _ in range(4):
        member.go_on()
        world.check()
    assert len(world.ended()) == 3
    assert member.told.counts["published"] == 3
    world.finish(member, 9)
    assert member.told.counts["published"] == 9


def test_the_records_of_a_refused_batch_go_alone_and_one_becomes_a_dead_letter() -> None:
    """A refusing broker spoils whole batches: here all that is sent together with the poison."""
    sent: list[bytes] = []

    def deliver(message: Outbound) -> DeliveryOutcome:
        sent.append(message.value or b"")
        return Refused("poison") if message.topic == "out" and message.value == b"in-0-1" else None

    world = World(deliver=deliver)
    world.fill(6)
    member = Member(world)
    world.finish(member, 6)
    assert [(m.key, m.value) for m in world.broker.messages("dead").values()] == [(b"a", b"in-0-1")]
    assert len(member.told.reasons) == 2
    assert "refused a batch" in member.told.reasons[0]
    assert "refused the event of in-0-1" in member.told.reasons[1]
    assert member.told.counts["dead"] == 1


def test_a_transaction_is_as_large_as_the_broker_takes_in_good_time() -> None:
    """A broker that takes 10 s for what it is given: the next transactions hold less, and all comes out."""
    world = World(looks=1)
    world.value = b"v" * 200
    world.fill(240)
    member = Member(world)
    sizes: list[int] = []
    while len(world.ended()) < 240:
        before = len(world.ended())
        member.read(240)
        member.answer(240)
        member.go_on()
        world.now_s += 1.0
        member.go_on()
        world.now_s += 9.0
        member.go_on()
        sizes += [len(world.ended()) - before] if len(world.ended()) > before else []
        world.check()
    assert sizes[0] in (77, 78), "16,000 bytes of messages with 206 or 207"
    assert max(sizes[1:]) <= 40
    assert member.told.reasons == []


def test_a_refused_dead_letter_stops_the_work_with_nothing_committed() -> None:
    world = World(deliver=lambda message: Refused("full"))
    world.fill(1)
    member = Member(world)
    with pytest.raises(DeliveryError, match=r"dead letter of in-0-0 refused by topic 'dead': full"):
        world.finish(member, 1)
    member.delivery.close()
    assert world.ended() == []
    assert world.broker.committed("g", Partition("in", 0)) is None


def test_what_is_open_at_the_drains_end_is_given_up() -> None:
    world = World(looks=5)
    world.drain_s = 0.0
    world.fill(3)
    member = Member(world)
    member.read(3)
    member.answer(3)
    world.broker.revoke(member.source, [Partition("in", 0)])
    member.read(3)
    assert member.delivery.rewinding
    assert member.told.reasons == ["work was not committed within the drain time"]
    world.broker.assign(member.source, [Partition("in", 0)])
    world.finish(member, 3)


def test_what_waits_for_a_commit_is_dropped_when_its_partition_goes() -> None:
    world = World(looks=9)
    world.drain_s = 0.0
    world.fill(6)
    member = Member(world)
    member.read(6)
    member.answer(3)
    world.now_s += INTERVAL_S
    member.go_on()
    member.go_on()  # the commit is under way
    member.answer(3)
    world.broker.revoke(member.source, [Partition("in", 0)])
    member.read(1)
    for _ in range(20):
        member.go_on()
        world.now_s += INTERVAL_S
        world.check()
    world.broker.assign(member.source, [Partition("in", 0)])
    world.finish(member, 6)


def test_committed_offsets_that_stay_unknown_end_the_work() -> None:
    world = World()
    world.fill(3)
    member = Member(world)
    member.read(3)
    member.answer(3)
    world.faults["transaction"] = 1
    world.faults["rewind"] = 10_000
    world.now_s += INTERVAL_S
    with pytest.raises(TransientError, match="fault at rewind"):  # noqa: PT012 - the loop
        while True:
            member.go_on()
            world.now_s += 100
    assert world.ended() == []


def test_a_process_that_ends_leaves_nothing_open() -> None:
    world = World()
    world.fill(3)
    member = Member(world)
    member.read(3)
    member.answer(3)
    member.delivery.close()
    assert world.ended() == []
    member.sink.begin()  # nothing is open any more


def test_the_memory_of_refusals_does_not_grow() -> None:
    """A record is remembered until its dead letter is committed; then its position is an ordinary one again."""
    world = World(deliver=lambda m: Refused("poison") if m.topic == "out" else None)
    world.fill(3)
    member = Member(world)
    world.finish(member, 3)
    (at,) = {position.at for position in world.broker.messages("in") if position.partition == 0}
    one = Envelope(Position(*at, 0), 99, None, (), None, None, None)
    assert one.position not in member.delivery.start([one])


def test_waiting_for_a_settled_transaction_says_what_became_of_it() -> None:
    world = World()
    member = Member(world)
    member.sink.begin()
    world.faults["transaction"] = 1
    with pytest.raises(RewindError, match="fault at transaction"):
        member.sink.commit({}, member.source.commit_token()).wait(0)
