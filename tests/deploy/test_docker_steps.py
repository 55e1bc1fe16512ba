"""The steps of the Dockerfile without a container engine: wheel, environment without pip, read-only root, user 10001.

The heavy libraries are those of the tests, linked into the environment; everything else is as in the image. What
confines the process is what an engine uses: mounts, process ids and capabilities of its own. Making them takes root.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from tests.deploy.dockerfile import lineage, read_stages

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
PACKAGES = sysconfig.get_paths()["purelib"]
WAIT_S = 60.0
PAUSE_S = 0.1

# $1: the new root, $2: the environment, $3: settings; then the command. Nothing else of this machine is there.
CONFINED = r"""
set -e
root=$1 environment=$2 settings=$3; shift 3
mount -t tmpfs -o mode=755 tmpfs "$root"
mkdir "$root/tmp" && mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"  # first: what is bound may lie below /tmp
for path in /usr /bin /sbin /lib /lib64 /etc/ld.so.cache /etc/ssl "$BASE" "$PACKAGES" "$environment"; do
    if [ -L "$path" ]; then cp -P "$path" "$root$path"; continue; fi
    if [ ! -e "$path" ] || [ -e "$root$path" ]; then continue; fi
    mkdir -p "$root${path%/*}"
    if [ -d "$path" ]; then mkdir "$root$path"; else touch "$root$path"; fi
    mount --bind "$path" "$root$path" && mount -o remount,bind,ro "$root$path"
done
mkdir -p "$root"/{dev,proc,etc/streamer,var/cache/streamer}
echo "streamer:x:10001:10001::/tmp:/usr/sbin/nologin" >"$root/etc/passwd"
mount --bind "$settings" "$root/etc/streamer" && mount -o remount,bind,ro "$root/etc/streamer"
mount -t proc proc "$root/proc"
for device in null zero random urandom; do
    touch "$root/dev/$device" && mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t tmpfs -o mode=750,uid=10001,gid=10001 tmpfs "$root/var/cache/streamer"
mount -o remount,ro "$root"
exec chroot "$root" /usr/bin/setpriv --reuid 10001 --regid 10001 --clear-groups --bounding-set=-all --inh-caps=-all \
    --no-new-privs "$@"
"""

SETTINGS = {
    "kafka": {"bootstrap_servers": "embedded", "group_protocol": "consumer"},
    "model": {"name": "fake"},
    "label_sets": {"l": {"facets": {"f": {"labels": ["a", "b"]}}}},
    "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "l"}],
}


@dataclass(frozen=True, slots=True)
class Container:
    """Starts commands as the image would."""

    root: Path
    environment: Path
    settings: Path

    def start(self, command: Sequence[str | Path], **env: str) -> subprocess.Popen[str]:
        _, stages = read_stages(DOCKERFILE.read_text(encoding="utf-8"))
        path = f"{self.environment}/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return subprocess.Popen(
            [
                *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"),
                *("bash", "-c", CONFINED, "confined", self.root, self.environment, self.settings, *command),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **lineage(stages, "cpu").pairs("ENV"),
                "BASE": sys.base_prefix,
                "PACKAGES": PACKAGES,
                "PATH": path,
                "OMP_NUM_THREADS": "1",
                **env,
            },
        )

    def run(self, command: Sequence[str | Path]) -> tuple[int, str, str]:
        process = self.start(command)
        out, err = process.communicate(timeout=4 * WAIT_S)
        return process.returncode, out, err


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder,
    ]
    subprocess.run([*pip, ROOT], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def container(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Container:
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("a root file system of its own needs root on Linux")
    folder = tmp_path_factory.mktemp("container")
    environment = folder / "streamer"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    into: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        environment / "bin" / "python",
        "install",
        "--quiet",
    ]
    subprocess.run([*into, "--no-index", "--no-deps", wheel], check=True)
    (site_packages,) = environment.glob("lib/python3*/site-packages")
    (site_packages / "of_the_tests.pth").write_text(PACKAGES + "\n", encoding="utf-8")
    for name in ("root", "settings"):
        (folder / name).mkdir()
    (folder / "settings" / "streamer.yaml").write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    (folder / "settings" / "healthcheck.py").write_bytes((DOCKERFILE.parent / "healthcheck.py").read_bytes())
    return Container(folder / "root", environment, folder / "settings")


def test_the_wheel_holds_model_and_demo_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "streamer/models/default/model.safetensors",
        "streamer/models/default/tokenizer.json",
        "streamer/demo/demo.yaml",
        "streamer/demo/tickets.jsonl",
        "streamer/py.typed",
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "load_tests/", "deploy/"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_only_tmp_and_the_hub_cache_can_be_written_to(container: Container) -> None:
    script = 'id -u; for at in / /usr /etc/streamer "$0" /tmp /var/cache/streamer; do'
    script += ' touch "$at/written" 2>/dev/null && echo "$at"; done; grep -c "^Cap.*[1-9a-f]$" /proc/self/status'
    _, out, err = container.run(["/bin/sh", "-c", script, container.environment])
    assert out.split() == ["10001", "/tmp", "/var/cache/streamer", "0"], err  # noqa: S108


def test_the_demo_runs_in_it(container: Container) -> None:
    code, out, err = container.run(["streamer", "demo", "--json"])
    assert code == 0, err
    figures = json.loads(out.splitlines()[-1])
    assert figures["consumed"] == figures["published"] + figures["dead_lettered"] >= 260


def test_as_process_1_it_is_healthy_and_ends_in_good_order(container: Container) -> None:
    """The health check runs beside it, in its namespaces, as an engine runs it."""
    port = {"STREAMER_HTTP__PORT": str(free_port())}
    process = container.start(["streamer", "run", "-c", "/etc/streamer/streamer.yaml"], **port)
    try:
        inside = first_inside(process)
        check = ["nsenter", "--target", str(inside), "--mount", "--pid", "--root", "--"]
        check += [f"{container.environment}/bin/python", "-I", "/etc/streamer/healthcheck.py"]
        deadline = time.monotonic() + WAIT_S
        while subprocess.run(check, env={**os.environ, **port}, capture_output=True, check=False).returncode != 0:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(PAUSE_S)
        os.kill(inside, signal.SIGTERM)
        _, err = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert json.loads(err.splitlines()[-1])["event"] == "stopped"


def first_inside(process: subprocess.Popen[str]) -> int:
    """The process that is number 1 inside; its id stays while it becomes the program."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children():
            return int(child.pid)
        time.sleep(PAUSE_S)
    raise AssertionError(process.communicate())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
