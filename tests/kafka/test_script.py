"""What deploy/kafka/kafka.sh says when it cannot do what it is asked. Needs no broker."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy" / "kafka"
TOOLS = ("bash", "env", "dirname", "sed", "head", "cat", "cmp", "rm", "mkdir", "mv", "cp", "ps", "grep", "sleep")
USAGE = "usage: kafka.sh up|down|status|addresses|secure, or kafka.sh pid|kill|start N"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A copy with a home of its own, and a folder `bin` to find its tools in: those every system has."""
    shutil.copytree(DEPLOY, tmp_path / "deploy" / "kafka")
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None, tool
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path / "deploy" / "kafka" / "kafka.sh"


def run(script: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and standard error of a call that prints nothing else."""
    code, out, err = run_all(script, *arguments, **environment)
    assert out == ""
    return code, err


def run_all(script: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    path = script.parents[2] / "bin"
    done = subprocess.run(
        [path / "bash", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(path), **environment},
    )
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def configure(home: Path, nodes: int, port: int) -> None:
    """What `up` leaves of a cluster that is down."""
    (home / "config").mkdir(parents=True)
    for node in range(nodes):
        first = port + 10 * node
        (home / "config" / f"server-{node + 1}.properties").write_text(
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{first},SASL://127.0.0.1:{first + 2},"
            f"TLS://127.0.0.1:{first + 3},PROXIED://127.0.0.1:{first + 5}\n",
            encoding="utf-8",
        )


@pytest.fixture
def stand_in(script: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that counts as node 2 of three: it has the configuration among its arguments."""
    home = script.parents[2] / ".kafka" / "cluster-3"
    configure(home, 3, 9492)
    config = home / "config" / "server-2.properties"
    process = subprocess.Popen([sys.executable, "-c", "input()", config], stdin=subprocess.PIPE)
    (home / "broker-2.pid").write_text(str(process.pid), encoding="utf-8")
    yield process
    process.kill()
    process.communicate()


def fake_java(script: Path, version: str) -> None:
    java = script.parents[2] / "bin" / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-01' >&2\n", encoding="utf-8")
    java.chmod(0o755)


def test_it_tells_its_verbs(script: Path) -> None:
    for arguments in ((), ("upp",), ("kill",), ("up", "1"), ("kill", "1", "2")):
        assert run(script, *arguments) == (2, USAGE)


def test_down_is_no_error_when_it_is_down(script: Path) -> None:
    assert run(script, "status") == (1, "down")
    assert run(script, "down") == (0, "")


def test_a_stale_process_number_is_not_taken_for_the_broker(script: Path) -> None:
    home = script.parents[2] / ".kafka"
    home.mkdir()
    (home / "broker.pid").write_text("1", encoding="utf-8")
    assert run(script, "status") == (1, "down")
    assert run(script, "down") == (0, "")
    assert not (home / "broker.pid").exists()


def test_missing_tools_are_named(script: Path) -> None:
    assert run(script, "up") == (
        1,
        "kafka.sh: java is missing; install a Java runtime, version 17 or newer",
    )
    fake_java(script, "11.0.22")
    assert run(script, "up") == (1, "kafka.sh: java is version 11; Kafka needs 17 or newer")
    fake_java(script, "17.0.15")
    assert run(script, "up") == (
        1,
        "kafka.sh: mvn is missing; install Apache Maven, it fetches Kafka's jars from Maven Central",
    )


def test_a_number_of_nodes_is_one_or_three(script: Path) -> None:
    assert run(script, "up", BROKERS="2") == (1, "kafka.sh: BROKERS is 1 or 3, not '2'")
    assert run(script, "status", BROKERS="") == (1, "down")


def test_a_node_that_is_not_there_is_named(script: Path) -> None:
    assert run(script, "kill", "2") == (1, "kafka.sh: node 2 does not exist; the last one is 1")
    assert run(script, "kill", "4", BROKERS="3") == (1, "kafka.sh: node 4 does not exist; the last one is 3")
    assert run(script, "pid", "x") == (1, "kafka.sh: node x does not exist; the last one is 1")
    assert run(script, "pid", "1") == (1, "kafka.sh: node 1 is down")
    assert run(script, "kill", "3", BROKERS="3") == (1, "kafka.sh: node 3 does not run")
    assert run(script, "start", "3", BROKERS="3") == (1, "kafka.sh: node 3 was never started; run kafka.sh up")
    for verb in ("addresses", "secure"):
        assert run(script, verb) == (1, "kafka.sh: node 1 was never started; run kafka.sh up")


def test_addresses_are_those_of_the_last_start(script: Path) -> None:
    store = script.parents[2] / ".kafka"
    configure(store, 1, 9392)
    configure(store / "cluster-3", 3, 20_000)
    assert run_all(script, "addresses", KAFKA_PORT="7000") == (0, "127.0.0.1:9392", "")
    three = "127.0.0.1:20000,127.0.0.1:20010,127.0.0.1:20020"
    assert run_all(script, "addresses", BROKERS="3") == (0, three, "")
    configure(store / "elsewhere", 3, 21_000)
    elsewhere = {"BROKERS": "3", "KAFKA_HOME": str(store / "elsewhere")}
    code, out, err = run_all(script, "addresses", **elsewhere)
    assert (code, out, err) == (0, "127.0.0.1:21000,127.0.0.1:21010,127.0.0.1:21020", "")


def test_the_secure_listener_is_told_as_settings(script: Path) -> None:
    home = script.parents[2] / ".kafka" / "cluster-3"
    configure(home, 3, 9492)
    code, out, err = run_all(script, "secure", BROKERS="3")
    assert (code, err) == (0, "")
    told = yaml.safe_load(out)["kafka"]
    assert told["bootstrap_servers"] == "127.0.0.1:9495,127.0.0.1:9505,127.0.0.1:9515"
    assert told["properties"]["ssl.ca.location"] == f"{home}/tls/ca.pem"
    assert told["properties"]["sasl.password"] == {"file": f"{home}/tls/streamer.password"}


def test_nodes_of_an_earlier_script_have_no_secure_listener(script: Path) -> None:
    config = script.parents[2] / ".kafka" / "config"
    config.mkdir(parents=True)
    earlier = "advertised.listeners=PLAINTEXT://127.0.0.1:9392,SASL://127.0.0.1:9394\n"
    (config / "server-1.properties").write_text(earlier, encoding="utf-8")
    assert run_all(script, "addresses") == (0, "127.0.0.1:9392", "")
    code, err = run(script, "secure")
    assert code == 1
    assert err.endswith("run kafka.sh down, then up")


def test_verbs_find_what_runs(script: Path, stand_in: subprocess.Popen[bytes]) -> None:
    assert run_all(script, "pid", "2") == (0, str(stand_in.pid), "")
    assert run(script, "status") == (1, "node 1 is down")
    assert run(script, "status", BROKERS="1") == (1, "down")
    assert run(script, "pid", "2", BROKERS="1")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "by"), [(("kill", "2"), signal.SIGKILL), (("down",), signal.SIGTERM)], ids=["kill", "down"]
)
def test_kill_is_at_once_and_down_is_in_order(
    script: Path, stand_in: subprocess.Popen[bytes], arguments: tuple[str, ...], by: signal.Signals
) -> None:
    waiter = threading.Thread(target=stand_in.wait)  # or it would stay in the process list
    waiter.start()
    assert run(script, *arguments) == (0, "")
    waiter.join()
    assert stand_in.returncode == -by
    assert run(script, "pid", "2", BROKERS="3") == (1, "kafka.sh: node 2 is down")
