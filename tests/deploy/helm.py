"""The Helm chart, rendered for tests.

Enters: value sets, and values over them. Leaves: Kubernetes objects, or the line by which the chart refuses.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.tools import require_tool

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "streamer"
EXAMPLES = ("ticket-routing", "social-monitoring", "small-cpu")
RELEASE = "prod"
NAME = "prod-streamer"

Object = dict[str, Any]

SECRET = {"name": "s", "key": "k"}
# what no example has
MORE: dict[str, Any] = {
    "commonLabels": {"team": "a"},
    "image": {"repository": "registry.example/streamer", "digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "staticMembership": True,
    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}},
    "config": {"reload": {"enabled": False}, "drift": {"baseline": "files/baseline.json"}},
    "files": {"baseline.json": "  {\n}"},
    "secrets": {"env": {"TRACING_HEADERS": SECRET}, "pageToken": SECRET},
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
    ],
    "hubCache": {"enabled": True, "storageClass": "fast"},
    "networkPolicy": {"egress": {"kafkaPorts": [9094, 9095]}},
    "serviceAccount": {"annotations": {"cloud": "role"}},
    "service": {"annotations": {"a": "b"}},
    "serviceMonitor": {"relabelings": [{"action": "labeldrop", "regex": "pod"}]},
    "podAnnotations": {"a": "b"},
    "podLabels": {"b": "c"},
    "extraEnv": [{"name": "HF_HUB_OFFLINE", "value": "1"}],
    "extraVolumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}],
    "extraVolumeMounts": [{"name": "models", "mountPath": "/models"}],
    "initContainers": [{"name": "fetch", "image": "fetch:1"}],
}


def set_(**values: object) -> tuple[str, ...]:
    """Arguments that set values over a value set: `a__b=1` sets `a.b`; mappings are merged, lists replaced."""
    return tuple(one for name, value in values.items() for one in _set(name.replace("__", "."), value))


def _set(place: str, value: object) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _set(place + "." + key.replace(".", r"\."), below)
    else:
        yield f"--set-json={place}={json.dumps(value)}"


@cache
def _helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [require_tool("helm"), "template", RELEASE, str(CHART), "--namespace", "work", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def example(name: str) -> str:
    return f"--values={CHART / 'examples' / name}.yaml"


FULL = (example("ticket-routing"), *set_(**MORE))


def manifests(*arguments: str) -> str:
    """What the chart renders, as text."""
    done = _helm(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def render(*arguments: str) -> list[Object]:
    return [one for one in yaml.safe_load_all(manifests(*arguments)) if one]


def refusal(*arguments: str) -> str:
    """What helm says where the chart refuses, without the place in the template."""
    done = _helm(*arguments)
    assert done.returncode != 0, "not refused"
    return done.stderr.replace("\nUse --debug flag to render out invalid YAML\n", "").strip()


def found(objects: list[Object], kind: str, name: str = NAME) -> Object:
    (one,) = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return one


def kinds(objects: list[Object]) -> list[str]:
    return sorted(one["kind"] for one in objects)


def pod(objects: list[Object]) -> Object:
    """The pod template of the workload."""
    (workload,) = [one for one in objects if one["kind"] in ("Deployment", "StatefulSet")]
    template: Object = workload["spec"]["template"]
    return template


def container(objects: list[Object]) -> Object:
    (one,) = pod(objects)["spec"]["containers"]
    assert isinstance(one, dict)
    return one


def environment(objects: list[Object]) -> dict[str, Object]:
    """Variables of the container by name."""
    return {one["name"]: one for one in container(objects)["env"]}


def mounted(objects: list[Object], directory: Path) -> Path:
    """Lay the ConfigMaps out as the kubelet mounts them, below a directory in place of /etc/streamer; returns the
    settings file."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = found(objects, "ConfigMap", f"{NAME}-settings")["data"]
    (directory / "streamer.yaml").write_text(settings["streamer.yaml"], encoding="utf-8")
    swap(directory / "label-sets", found(objects, "ConfigMap", f"{NAME}-label-sets")["data"])
    swap(directory / "files", {name: text for name, text in settings.items() if name != "streamer.yaml"})
    return directory / "streamer.yaml"


def swap(folder: Path, data: Mapping[str, str]) -> None:
    """Put a ConfigMap's data into a folder as the kubelet does: into a new folder of its own, to which the link ..data
    is moved over in one step; what a program opens are links through it."""
    folder.mkdir(exist_ok=True)
    new = folder / f"..2026_{len(list(folder.iterdir()))}"
    new.mkdir()
    for name, text in data.items():
        (new / name).write_text(text, encoding="utf-8")
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(Path("..data") / name)
    temporary = folder / "..data_tmp"
    temporary.symlink_to(new.name)
    temporary.replace(folder / "..data")
