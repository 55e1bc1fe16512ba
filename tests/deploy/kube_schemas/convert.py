"""Makes the schemas in this folder: `python -m tests.deploy.kube_schemas.convert CORE CRDS`, as remake.sh does.

Enters: a folder of kubernetes-validate's schemas of one Kubernetes version (strict), and a folder of
CustomResourceDefinitions. Leaves: one file for each kind that the chart renders, named as kubeconform looks for it,
and definitions.json, which the core kinds share. Must not know: the chart.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
# kind -> its definition, file name by kubeconform's rule: kind, first part of the group, version
CORE = {
    "configmap-v1": "io.k8s.api.core.v1.ConfigMap",
    "persistentvolumeclaim-v1": "io.k8s.api.core.v1.PersistentVolumeClaim",
    "service-v1": "io.k8s.api.core.v1.Service",
    "serviceaccount-v1": "io.k8s.api.core.v1.ServiceAccount",
    "deployment-apps-v1": "io.k8s.api.apps.v1.Deployment",
    "statefulset-apps-v1": "io.k8s.api.apps.v1.StatefulSet",
    "horizontalpodautoscaler-autoscaling-v2": "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
    "networkpolicy-networking-v1": "io.k8s.api.networking.v1.NetworkPolicy",
    "poddisruptionbudget-policy-v1": "io.k8s.api.policy.v1.PodDisruptionBudget",
}
CUSTOM = ("ScaledObject", "TriggerAuthentication", "ServiceMonitor", "PrometheusRule")


def _bare(schema: Any) -> Any:
    """Without what validates nothing; references as the files here need them."""
    if isinstance(schema, list):
        return [_bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    bare = {}
    for key, value in schema.items():
        if key == "$ref":
            bare[key] = "definitions.json#/$defs/" + value.rsplit("/", 1)[1]
        elif key.startswith("x-") or (key == "description" and isinstance(value, str)):
            continue
        else:
            bare[key] = _bare(value)
    return bare


def _strict(schema: Any) -> Any:
    """A custom resource's schema that refuses fields which the API server would drop."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        strict.pop("type", None)
    return strict


def _named(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for one in schema:
            yield from _named(one)
    elif isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref":
                yield value.rsplit("/", 1)[1]
            else:
                yield from _named(value)


def _core(folder: Path) -> dict[str, Any]:
    known = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))["$defs"]
    needed: dict[str, Any] = {}
    waiting = list(CORE.values())
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed[name] = _bare(known[name])
            waiting.extend(_named(known[name]))
    files: dict[str, Any] = {
        file: {"$ref": f"definitions.json#/$defs/{name}", "required": ["apiVersion", "kind", "metadata"]}
        for file, name in CORE.items()
    }
    return {**files, "definitions": {"$defs": dict(sorted(needed.items()))}}


def _custom(folder: Path) -> dict[str, Any]:
    files = {}
    for path in sorted(folder.glob("*.yaml")):
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]
        if spec["names"]["kind"] in CUSTOM:
            for version in spec["versions"]:
                schema = version["schema"]["openAPIV3Schema"]
                schema["properties"].pop("status", None)
                schema["properties"]["metadata"] = {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": True,
                    "required": ["name"],
                }
                name = f"{spec['names']['singular']}-{spec['group'].split('.')[0]}-{version['name']}"
                files[name] = _bare(_strict(schema))
    return files


def main(core: Path, crds: Path) -> None:
    for file, schema in {**_core(core), **_custom(crds)}.items():
        text = json.dumps(schema, separators=(",", ":"), sort_keys=True)
        (HERE / f"{file}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
