"""What the images are made of, and the health check they run."""

from __future__ import annotations

import http.server
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamer import __version__
from streamer.settings import HttpSettings
from tests.deploy.dockerfile import Stage, lineage, read_stages
from tests.tools import require_tool

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
HEALTHCHECK = DOCKER / "healthcheck.py"
ARGS, STAGES = read_stages((DOCKER / "Dockerfile").read_text(encoding="utf-8"))
TARGETS = ("cpu", "cuda")
CONTEXT = {source for stage in STAGES.values() for rest in stage.all("COPY") if "--from" not in rest
           for source in rest.split()[:-1]}  # fmt: skip


@pytest.fixture(params=TARGETS)
def image(request: pytest.FixtureRequest) -> Stage:
    return lineage(STAGES, request.param)


def test_the_linter_has_nothing_to_say() -> None:
    done = subprocess.run(
        [require_tool("hadolint"), "--no-color", DOCKER / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_stage_begins_with_the_pinned_image_or_another_stage() -> None:
    assert {stage.base for stage in STAGES.values()} - STAGES.keys() == {"${PYTHON_IMAGE}"}
    version = re.fullmatch(r"python:3\.(\d+)\.\d+-slim-bookworm", ARGS["PYTHON_IMAGE"])
    assert version is not None
    assert int(version[1]) >= 11
    assert list(STAGES)[-2:] == ["cuda", "cpu"]  # the last one is built where no target is named


def test_what_is_installed_is_pinned() -> None:
    installs = [rest for stage in STAGES.values() for rest in stage.all("RUN") if " install " in f" {rest} "]
    by_pip = [rest for rest in installs if "pip" in rest.split("install")[0] and "uninstall" not in rest]
    assert len(by_pip) == 5
    assert all("--constraint" in rest and "--no-cache-dir" in rest for rest in by_pip)
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert {line.split("==")[0] for line in pinned if "==" in line} >= {"torch", "hatchling", "confluent-kafka"}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(ARGS["EXTRAS"].split(",")) <= extras.keys() - {"test", "bench", "tuning"}


def test_an_image_holds_the_environment_and_the_health_check_alone(image: Stage) -> None:
    assert image.all("COPY") == [
        "deploy/docker/healthcheck.py /opt/healthcheck.py",
        f"--from=environment-{image.name} /opt/streamer /opt/streamer",
    ]
    assert not image.all("ADD")
    (run,) = image.all("RUN")
    assert run.startswith("pip uninstall --yes")
    assert "chmod a-s" in run
    assert not re.search("apt|gcc|curl|wget", run)


def test_an_image_runs_as_nobody_in_particular_and_writes_to_one_volume(image: Stage) -> None:
    uid, _, gid = image.all("USER")[-1].partition(":")
    assert uid == gid == "10001"
    (volume,) = image.json("VOLUME")
    env = image.pairs("ENV")
    assert Path(volume) in Path(env["HF_HOME"]).parents
    assert env["HOME"] == "/tmp"  # noqa: S108 - the one other place that can be written to
    assert f"install --directory --owner {uid} --group {gid} --mode 0750 {volume}" in image.all("RUN")[0]


def test_an_image_starts_and_stops_without_a_shell(image: Stage) -> None:
    assert image.json("ENTRYPOINT") == ["streamer"]
    assert image.json("CMD") == ["run", "--config", f"{image.all('WORKDIR')[-1]}/streamer.yaml"]
    assert image.all("STOPSIGNAL") == ["SIGTERM"]
    assert image.json("HEALTHCHECK") == ["/opt/streamer/bin/python", "-I", "/opt/healthcheck.py"]
    assert image.all("EXPOSE") == [str(HttpSettings().port)]


def test_an_image_tells_what_it_is_and_no_secret(image: Stage) -> None:
    labels = image.pairs("LABEL")
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert image.pairs("ARG")["VERSION"] == __version__
    names = image.pairs("ENV").keys() | image.pairs("ARG").keys() | ARGS.keys()
    assert not [name for name in names if re.search("PASS|SECRET|TOKEN|CREDENTIAL|KEY", name)]
    assert f"streamer:{__version__}-{image.name}" in (DOCKER / "Dockerfile").read_text(encoding="utf-8")


def test_the_builder_is_given_what_it_takes_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == CONTEXT
    assert all((ROOT / source).exists() for source in CONTEXT)


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers /healthz with `status`."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()
        self.wfile.write(b'{"ok": false, "reasons": ["the loop stands still"]}')

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def serving(status: int) -> Iterator[int]:
    handler = type("Handler", (Answering,), {"status": status})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def check_health(port: int) -> tuple[int, str]:
    # a proxy of the environment would have to be left alone: there is none at this address
    env = {**os.environ, "STREAMER_HTTP__PORT": str(port), "http_proxy": "http://127.0.0.1:1"}
    done = subprocess.run(
        [sys.executable, "-I", HEALTHCHECK], env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_says_what_healthz_says(status: int, code: int) -> None:
    with serving(status) as port:
        got, said = check_health(port)
    assert got == code
    assert said.startswith(str(status))
    assert "the loop stands still" in said


def test_the_health_check_fails_where_nobody_answers() -> None:
    with serving(200) as port:
        pass
    code, said = check_health(port)
    assert code == 1
    assert said.startswith("no answer from /healthz")
    assert f"DEFAULT_PORT = {HttpSettings().port}\n" in HEALTHCHECK.read_text(encoding="utf-8")
