#!/usr/bin/env bash
# Apache Kafka on this computer, for tests and try-outs: one broker in KRaft mode on the loopback address.
#
#   kafka.sh up       fetch the jars once, start the broker, wait until it answers
#   kafka.sh down     stop the broker that `up` started; its data stays
#   kafka.sh status   print its address and exit 0, or exit 1 when it is down
#
# Needs Java 17 or newer, and Maven for the first start. KAFKA_PORT (9392) is the clients' port; the two after it go to
# the controller and to a listener with SASL. Everything lies under .kafka/ of the checkout: delete it to start afresh.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=$(cd "$here/../.." && pwd)/.kafka
port=${KAFKA_PORT:-9392}
start_timeout_s=90
stop_timeout_s=30

fail() {
    echo "kafka.sh: $*" >&2
    exit 1
}

# A node is named by its number; node 1 has the plain names.
pid_file() { [ "$1" = 1 ] && echo "$home/broker.pid" || echo "$home/broker-$1.pid"; }
config_file() { echo "$home/config/server-$1.properties"; }
log_file() { echo "$home/logs/broker-$1.log"; }
client_port() { echo $((port + 3 * ($1 - 1))); }

# Where the running node listens, whatever KAFKA_PORT says now.
address() { sed -n 's|^advertised.listeners=PLAINTEXT://\([^,]*\),.*|\1|p' "$(config_file "$1")"; }

# One start or stop at a time; a lock whose process is gone counts for nothing.
take_lock() {
    local deadline=$((SECONDS + start_timeout_s))
    mkdir -p "$home"
    until (set -o noclobber && echo $$ >"$home/lock") 2>/dev/null; do
        kill -0 "$(cat "$home/lock" 2>/dev/null)" 2>/dev/null || rm -f "$home/lock"
        [ "$SECONDS" -lt "$deadline" ] || fail "another kafka.sh is at work; see $home/lock"
        sleep 0.2
    done
    trap 'rm -f "$home/lock"' EXIT
}

check_java() {
    command -v java >/dev/null || fail "java is missing; install a Java runtime, version 17 or newer"
    local version
    version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${version:-0}" -ge 17 ] || fail "java is version ${version:-unknown}; Kafka needs 17 or newer"
}

fetch_jars() {
    if [ -f "$home/lib/pom.xml" ] && cmp -s "$here/pom.xml" "$home/lib/pom.xml"; then
        return
    fi
    command -v mvn >/dev/null || fail "mvn is missing; install Apache Maven, it fetches Kafka's jars from Maven Central"
    rm -rf "$home/lib"
    mkdir -p "$home/logs"
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$home/lib" >"$home/logs/maven.log" 2>&1 ||
        fail "could not fetch Kafka's jars; see $home/logs/maven.log"
    cp "$here/pom.xml" "$home/lib/pom.xml" # last, so that a broken fetch is repeated
}

# The process of node $1, where it runs: the number in the pid file may have passed to another program.
running_pid() {
    local pid
    pid=$(cat "$(pid_file "$1")" 2>/dev/null) || return 1
    ps -ww -p "$pid" -o args= 2>/dev/null | grep -qF "$(config_file "$1")" || return 1
    echo "$pid"
}

answers() { (exec 3<>"/dev/tcp/${1/:/\/}") 2>/dev/null; }

format_node() {
    local data="$home/data-$1" client
    client=$(client_port "$1")
    mkdir -p "$home/config" "$home/logs" "$data"
    sed -e "s|@NODE@|$1|" -e "s|@DATA@|$data|" -e "s|@PORT@|$client|g" \
        -e "s|@CONTROLLER_PORT@|$((client + 1))|g" -e "s|@SASL_PORT@|$((client + 2))|g" \
        "$here/server.properties" >"$(config_file "$1")"
    [ -f "$data/meta.properties" ] && return
    local id
    id=$(java -cp "$home/lib/*" kafka.tools.StorageTool random-uuid 2>>"$home/logs/format.log")
    java -cp "$home/lib/*" kafka.tools.StorageTool format --standalone --cluster-id "$id" \
        --config "$(config_file "$1")" >>"$home/logs/format.log" 2>&1 ||
        fail "could not format the storage; see $home/logs/format.log"
}

start_node() {
    local client
    client=$(client_port "$1")
    answers "127.0.0.1:$client" && fail "port $client is taken by another program; set KAFKA_PORT"
    format_node "$1"
    # a background process of a script ignores Ctrl-C, and nohup the end of the terminal
    nohup java -Xmx512m -Djava.awt.headless=true -Dlog4j2.level=INFO -cp "$home/lib/*" \
        kafka.Kafka "$(config_file "$1")" >"$(log_file "$1")" 2>&1 </dev/null &
    echo $! >"$(pid_file "$1")"
}

await_node() {
    local deadline=$((SECONDS + start_timeout_s))
    until grep -qs "Kafka Server started" "$(log_file "$1")" && answers "$(address "$1")"; do
        # not running_pid: a process that just began does not show its arguments yet
        kill -0 "$(cat "$(pid_file "$1")")" 2>/dev/null || fail "the broker ended while starting; see $(log_file "$1")"
        [ "$SECONDS" -lt "$deadline" ] || fail "the broker does not answer after ${start_timeout_s} s; see $(log_file "$1")"
        sleep 0.2
    done
}

stop_node() {
    local pid deadline
    if pid=$(running_pid "$1"); then
        kill "$pid"
        deadline=$((SECONDS + stop_timeout_s))
        while running_pid "$1" >/dev/null; do
            if [ "$SECONDS" -ge "$deadline" ]; then
                kill -9 "$pid"
            fi
            sleep 0.2
        done
    fi
    rm -f "$(pid_file "$1")"
}

case "${1:-}" in
up)
    take_lock
    if ! running_pid 1 >/dev/null; then
        check_java
        fetch_jars
        start_node 1
    fi
    await_node 1
    address 1
    ;;
down)
    take_lock
    stop_node 1
    ;;
status)
    if running_pid 1 >/dev/null && answers "$(address 1)"; then
        address 1
    else
        echo "down" >&2
        exit 1
    fi
    ;;
*)
    echo "usage: kafka.sh up|down|status" >&2
    exit 2
    ;;
esac
