#!/usr/bin/env bash
# Makes the schemas in this folder anew; see README.md. Needs Go 1.24 or newer, Python, and a few minutes.
set -euo pipefail

validate_version=1.37.0 # of the PyPI package kubernetes-validate
kubernetes=v1.33.0
keda=v2.17.2
monitoring=v0.84.1
controller_gen=v0.18.0

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$root/.venv/bin/pip" download --quiet --no-deps --dest "$work" "kubernetes-validate==$validate_version"
"$root/.venv/bin/python" -m zipfile -e "$work"/kubernetes_validate-*.whl "$work/core"

cd "$work"
cat >used.go <<END
package schemas

import (
	_ "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	_ "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)
END
go mod init schemas
go get "github.com/kedacore/keda/v2/apis/keda/v1alpha1@$keda" \
    "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1@$monitoring" \
    "sigs.k8s.io/controller-tools/cmd/controller-gen@$controller_gen"
go run sigs.k8s.io/controller-tools/cmd/controller-gen crd \
    paths=github.com/kedacore/keda/v2/apis/keda/v1alpha1 \
    paths=github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1 output:crd:dir="$work/crds"

cd "$root"
.venv/bin/python -m tests.deploy.kube_schemas.convert \
    "$work/core/kubernetes_validate/kubernetes-json-schema/$kubernetes-local-strict" "$work/crds"
