"""The processes of a fault run, and a supervisor that treats them as an orchestrator would.

Enters: slots, each the place of one process at a time. Leaves: processes started again whenever they end, how each
ended, their memory, and how often each was disturbed. Whoever runs the test calls `tick` often; nothing here waits.
Must not know: topics, offsets, which faults come when.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from load_tests.faults.evidence import Memory, Stop
from load_tests.faults.journal import Journal
from load_tests.faults.traffic import Process
from load_tests.process import free_port, spawn

RESTART_S = 1.0
MEMORY_S = 1.0
DISTURBED_S = 60.0  # a client may hang for so long after a broker went away, before it is given up
# an orchestrator's liveness probe: so many failures, so far apart, end a process
PROBE_S = 5.0
FIRST_PROBES_S = 0.25
PROBE_FAILURES = 6
PROBE_TIMEOUT_S = 0.2
CAUSE_CHARACTERS = 300


@dataclass(slots=True)
class _Slot:
    name: str
    port: int
    started: int = 0
    process: subprocess.Popen[bytes] | None = None
    writer: str = ""
    since_s: float = 0.0  # when the process was started
    idle_until_s: float | None = 0.0  # without a process: when the next one starts; None: not before it is told
    paused_until_s: float | None = None
    stopping_s: float | None = None  # when it was sent SIGTERM
    killed: bool = False
    restart: bool = True
    up: bool = False  # it has answered once, so it handles signals
    probed_s: float = 0.0
    failures: int = 0
    memory: psutil.Process | None = field(default=None, repr=False)

    def free(self) -> subprocess.Popen[bytes] | None:
        """The process, if it runs and nothing is being done to it."""
        busy = self.killed or self.stopping_s is not None or self.paused_until_s is not None
        return None if busy else self.process


class Fleet:
    """Slots with a process each; those `waiting` have none until they are told to start. `grace_s`: a process that
    takes longer to end after SIGTERM is killed."""

    def __init__(
        self,
        *,
        slots: Sequence[str],
        waiting: Sequence[str],
        settings: Callable[[Process], Mapping[str, Any]],
        folder: Path,
        journal: Journal,
        grace_s: float,
    ) -> None:
        self.memory: list[Memory] = []
        self.stops: list[Stop] = []
        self.writers: list[str] = []
        self.disruptions: Counter[str] = Counter()
        self._slots = {name: _Slot(name, free_port()) for name in (*slots, *waiting)}
        for name in waiting:
            self._slots[name].idle_until_s = None
        self._settings = settings
        self._folder = folder
        self._journal = journal
        self._grace_s = grace_s
        self._memory_s = 0.0
        self._disturbed_s = -DISTURBED_S

    # what is done to a slot; False where it has no process that this can be done to now

    def kill(self, name: str) -> bool:
        """SIGKILL; the slot starts again."""
        slot = self._slots[name]
        process = slot.free()
        if process is None:
            return False
        self._journal.note("kill -9", slot.writer)
        slot.killed = True
        process.kill()
        self.disruptions[slot.writer] += 1
        return True

    def pause(self, name: str, seconds: float) -> bool:
        """SIGSTOP, and SIGCONT so much later."""
        slot = self._slots[name]
        process = slot.free()
        if process is None:
            return False
        self._journal.note("pause", slot.writer, f"{seconds:.1f} s")
        process.send_signal(signal.SIGSTOP)
        slot.paused_until_s = time.monotonic() + seconds
        self.disruptions[slot.writer] += 1
        return True

    def terminate(self, name: str, *, restart: bool) -> bool:
        """SIGTERM. With `restart` the slot starts again, else not before `start`."""
        slot = self._slots[name]
        process = slot.free()
        if process is None or not slot.up:
            return False
        self._journal.note("terminate", slot.writer)
        slot.stopping_s, slot.restart = time.monotonic(), restart
        process.terminate()
        return True

    def start(self, name: str) -> None:
        """Start the slot's process, if it has none."""
        self._slots[name].idle_until_s = 0.0
        self._slots[name].restart = True

    def runs(self, name: str) -> bool:
        return self._slots[name].process is not None

    def age_s(self, name: str) -> float:
        """For how long the slot's process has run; 0 without one."""
        slot = self._slots[name]
        return 0.0 if slot.process is None else time.monotonic() - slot.since_s

    def disturb_all(self) -> None:
        """Something outside disturbs every process that runs now."""
        self._disturbed_s = time.monotonic()
        for slot in self._slots.values():
            if slot.process is not None:
                self.disruptions[slot.writer] += 1

    def tick(self) -> None:
        """See to what has ended, what is due to start or wake up, and what does not answer."""
        now = time.monotonic()
        for slot in self._slots.values():
            if slot.process is None:
                if slot.idle_until_s is not None and now >= slot.idle_until_s:
                    self._start(slot, now)
            elif slot.process.poll() is not None:
                self._ended(slot, slot.process.returncode, now)
            elif slot.paused_until_s is not None and now >= slot.paused_until_s:
                slot.process.send_signal(signal.SIGCONT)
                slot.paused_until_s = None
                self._journal.note("wake up", slot.writer)
            elif slot.stopping_s is not None and not slot.killed and now - slot.stopping_s > self._grace_s:
                slot.killed = True
                slot.process.kill()
        self._look_after(now)

    def stop_all(self) -> None:
        """SIGTERM to all that run, and wait for them."""
        for slot in self._slots.values():
            slot.idle_until_s, slot.restart = None, False
        while any(slot.process is not None for slot in self._slots.values()):
            for name, slot in self._slots.items():
                slot.restart = False
                self.terminate(name, restart=False)
            self.tick()
            time.sleep(0.02)

    def stop(self) -> None:
        """Leave no process behind, however it ends."""
        for slot in self._slots.values():
            if slot.process is not None:
                slot.process.kill()
                slot.process.wait()

    def _start(self, slot: _Slot, now: float) -> None:
        slot.started += 1
        slot.writer = f"{slot.name}-{slot.started}"
        slot.process = spawn(self._settings(Process(slot.name, slot.writer, slot.port)), self._folder, slot.writer)
        slot.memory = psutil.Process(slot.process.pid)
        slot.since_s, slot.up, slot.failures = now, False, 0
        self.writers.append(slot.writer)
        self._journal.note("start", slot.writer)

    def _ended(self, slot: _Slot, exit_code: int, now: float) -> None:
        if slot.stopping_s is not None:
            disturbed = now - self._disturbed_s < DISTURBED_S
            self.stops.append(Stop(slot.writer, None if slot.killed else exit_code, now - slot.stopping_s, disturbed))
            self._journal.note("stopped", slot.writer, f"exit code {exit_code} after {now - slot.stopping_s:.1f} s")
        elif not slot.killed:
            self.disruptions[slot.writer] += 1
            self._journal.note("ended by itself", slot.writer, f"exit code {exit_code}: {self._cause(slot.writer)}")
        slot.idle_until_s = now + RESTART_S if slot.restart else None
        slot.process = slot.memory = slot.stopping_s = slot.paused_until_s = None
        slot.killed = False

    def _cause(self, writer: str) -> str:
        """What it ended with: the line for the user, else the last line of its log."""
        lines = (self._folder / f"{writer}.log").read_text(encoding="utf-8", errors="replace").split("\n")
        said = [line for line in lines if line.strip()]
        last = [line for line in said if line.startswith("error: ")] or said
        return last[-1][:CAUSE_CHARACTERS] if last else ""

    def _look_after(self, now: float) -> None:
        if now - self._memory_s >= MEMORY_S:
            self._memory_s = now
            for slot in self._slots.values():
                if slot.memory is not None and slot.memory.is_running():
                    rss_mb = slot.memory.memory_info().rss / 2**20
                    self.memory.append(Memory(slot.writer, round(self._journal.clock(), 1), rss_mb))
        for slot in self._slots.values():
            if now - slot.probed_s >= (PROBE_S if slot.up else FIRST_PROBES_S):
                slot.probed_s = now
                self._probe(slot)

    def _probe(self, slot: _Slot) -> None:
        process = slot.free()
        if process is None:
            return
        if not slot.up:
            slot.up = _lives(slot.port)
            return
        slot.failures = 0 if _lives(slot.port) else slot.failures + 1
        if slot.failures >= PROBE_FAILURES:
            self._journal.note("not alive", slot.writer, f"killed after {PROBE_FAILURES} failed probes")
            slot.killed = True
            process.kill()
            self.disruptions[slot.writer] += 1


def _lives(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=PROBE_TIMEOUT_S):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def causes(journal: Journal) -> dict[str, int]:
    """How often processes ended by themselves, by what they said; names in quotes are left out."""
    said = (one.detail for one in journal.happenings if one.what == "ended by itself")
    return dict(Counter(re.sub("'[^']*'", "'...'", line) for line in said))
