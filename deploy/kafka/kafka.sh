#!/usr/bin/env bash
# Apache Kafka on this computer, for tests and try-outs: one node, or three, in KRaft mode on the loopback address.
#
#   kafka.sh up         fetch the jars once, start the nodes, wait until they answer; BROKERS=3 for three (default: 1)
#   kafka.sh down       stop what `up` started; its data stays
#   kafka.sh status     print the addresses for clients and exit 0, or exit 1 when a node is down
#   kafka.sh addresses  print them, whether the nodes run or not
#   kafka.sh secure     print the settings for the listener with TLS and a login
#   kafka.sh pid N      print the process number of node N, or exit 1 when it is down
#   kafka.sh kill N     end node N at once (kill -9)
#   kafka.sh start N    start node N again, and wait until it answers
#
# Without BROKERS, all but `up` mean what runs: the single node if it does, else the three. Both may run side by side.
#
# Needs Java 17 or newer, and Maven for the first start. Everything lies under .kafka/ of the checkout, the three nodes
# in .kafka/cluster-3: delete it to start afresh. KAFKA_HOME puts nodes and their data elsewhere.
#
# Ports. KAFKA_PORT is node 1's port for clients: 9392, or 9492 with BROKERS=3. Node N has the ten ports from
# P = KAFKA_PORT + 10 * (N - 1) on:
#   P      PLAINTEXT; its clients may do everything
#   P + 1  controller
#   P + 2  SASL; user `nobody`, password `local-test-only`, who may do nothing
#   P + 3  TLS and SASL; user `streamer`, who may do what acls.md says once it is granted; see `kafka.sh secure`
#   P + 4  PROXIED: as PLAINTEXT, but sends its clients to P + 5, where a proxy is to listen and pass on to P + 4
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
store=$(cd "$here/../.." && pwd)/.kafka
lib=$store/lib
start_timeout_s=90
password=local-test-only
locks=()

fail() {
    echo "kafka.sh: $*" >&2
    exit 1
}

set_cluster() {
    brokers=$1
    if [ "$1" = 1 ]; then
        home=${KAFKA_HOME:-$store} port=${KAFKA_PORT:-9392} stop_timeout_s=30
    else
        # not long: without the others the last node waits in vain for leave to go, and loses nothing by being killed
        home=${KAFKA_HOME:-$store/cluster-$1} port=${KAFKA_PORT:-9492} stop_timeout_s=10
    fi
}

# Which cluster the verb $1 is about.
choose_cluster() {
    case "${BROKERS:-}" in
    1 | 3) set_cluster "$BROKERS" ;;
    "")
        set_cluster 1
        if [ "$1" = up ] || { any_runs && [ ! -f "$(config_file 3)" ]; }; then return; fi
        set_cluster 3
        any_runs || set_cluster 1
        ;;
    *) fail "BROKERS is 1 or 3, not '$BROKERS'" ;;
    esac
}

# A node is named by its number; node 1 has the plain names.
pid_file() { [ "$1" = 1 ] && echo "$home/broker.pid" || echo "$home/broker-$1.pid"; }
config_file() { echo "$home/config/server-$1.properties"; }
log_file() { echo "$home/logs/broker-$1.log"; }

# Where clients of listener $2 reach the configured node $1, whatever KAFKA_PORT says now.
address() { sed -n "s|^advertised.listeners=\(.*,\)\{0,1\}$2://\([^,]*\).*|\2|p" "$(config_file "$1")"; }

# The same of all nodes, comma separated.
addresses() {
    local node all=
    for ((node = 1; node <= brokers; node++)); do
        [ -f "$(config_file "$node")" ] || fail "node $node was never started; run kafka.sh up"
        all+=,$(address "$node" "$1")
    done
    echo "${all#,}"
}

# One start or stop of a kind at a time; a lock whose process is gone counts for nothing.
take_lock() {
    local deadline=$((SECONDS + start_timeout_s))
    mkdir -p "$(dirname "$1")"
    until (set -o noclobber && echo $$ >"$1") 2>/dev/null; do
        kill -0 "$(cat "$1" 2>/dev/null)" 2>/dev/null || rm -f "$1"
        [ "$SECONDS" -lt "$deadline" ] || fail "another kafka.sh is at work; see $1"
        sleep 0.2
    done
    locks+=("$1")
    trap 'rm -f "${locks[@]}"' EXIT
}

check_java() {
    command -v java >/dev/null || fail "java is missing; install a Java runtime, version 17 or newer"
    local version
    version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${version:-0}" -ge 17 ] || fail "java is version ${version:-unknown}; Kafka needs 17 or newer"
}

fetch_jars() {
    cmp -s "$here/pom.xml" "$lib/pom.xml" && return
    take_lock "$store/jars.lock" # all homes share them
    cmp -s "$here/pom.xml" "$lib/pom.xml" && return
    command -v mvn >/dev/null || fail "mvn is missing; install Apache Maven, it fetches Kafka's jars from Maven Central"
    rm -rf "$lib"
    mkdir -p "$store/logs"
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$lib" >"$store/logs/maven.log" 2>&1 ||
        fail "could not fetch Kafka's jars; see $store/logs/maven.log"
    cp "$here/pom.xml" "$lib/pom.xml" # last, so that a broken fetch is repeated
}

# The process of node $1, where it runs: the number in the pid file may have passed to another program.
running_pid() {
    local pid
    pid=$(cat "$(pid_file "$1")" 2>/dev/null) || return 1
    ps -ww -p "$pid" -o args= 2>/dev/null | grep -qF "$(config_file "$1")" || return 1
    echo "$pid"
}

any_runs() {
    local node
    for ((node = 1; node <= brokers; node++)); do
        running_pid "$node" >/dev/null && return
    done
    return 1
}

answers() { (exec 3<>"/dev/tcp/${1/:/\/}") 2>/dev/null; }

configure_node() {
    local first=$((port + 10 * ($1 - 1))) quorum=controller.quorum.bootstrap.servers=127.0.0.1:$((port + 1))
    local replicas=1 in_sync=1 session_ms=9000 offset
    if [ "$brokers" = 3 ]; then
        quorum=controller.quorum.voters=1@127.0.0.1:$((port + 1)),2@127.0.0.1:$((port + 11)),3@127.0.0.1:$((port + 21))
        replicas=3 in_sync=2 session_ms=3000
    fi
    for offset in 0 1 2 3 4; do
        answers "127.0.0.1:$((first + offset))" &&
            fail "port $((first + offset)) is taken by another program; set KAFKA_PORT"
    done
    mkdir -p "$home/config" "$home/logs" "$home/data-$1"
    sed -e "s|@NODE@|$1|" -e "s|@QUORUM@|$quorum|" -e "s|@DATA@|$home/data-$1|" -e "s|@TLS@|$home/tls|" \
        -e "s|@PORT@|$first|g" -e "s|@CONTROLLER_PORT@|$((first + 1))|g" -e "s|@SASL_PORT@|$((first + 2))|g" \
        -e "s|@TLS_PORT@|$((first + 3))|g" -e "s|@PROXIED_PORT@|$((first + 4))|g" -e "s|@PROXY_PORT@|$((first + 5))|g" \
        -e "s|@REPLICAS@|$replicas|" -e "s|@IN_SYNC@|$in_sync|" -e "s|@SESSION_MS@|$session_ms|" \
        "$here/server.properties" >"$(config_file "$1")"
}

# A certificate for the nodes, signed by an authority of this home that signs no other: its key is thrown away.
make_certificate() {
    local tls=$home/tls
    [ -f "$tls/ca.pem" ] && return
    command -v keytool >/dev/null || fail "keytool is missing; it comes with Java"
    rm -rf "$tls"
    mkdir -p -m 700 "$tls"
    local store=(-keystore "$tls/node.p12" -storetype PKCS12 -storepass "$password")
    local key=(-keyalg EC -groupname secp256r1 -validity 3650)
    {
        keytool -genkeypair -alias ca -dname "CN=streamer local test authority" -ext bc:c -ext ku:c=keyCertSign \
            "${key[@]}" "${store[@]}" &&
            keytool -genkeypair -alias node -signer ca -dname "CN=streamer local test node" \
                -ext san=ip:127.0.0.1,dns:localhost -ext eku=serverAuth "${key[@]}" "${store[@]}" &&
            keytool -exportcert -rfc -alias ca -file "$tls/ca.new" "${store[@]}" &&
            keytool -delete -alias ca "${store[@]}"
    } >"$home/logs/tls.log" 2>&1 || fail "could not make a certificate; see $home/logs/tls.log"
    echo "$password" >"$tls/streamer.password"
    mv "$tls/ca.new" "$tls/ca.pem" # last, so that a broken start is repeated
}

cluster_id() {
    local known id
    known=$(sed -n 's/^cluster.id=//p' "$home"/data-*/meta.properties 2>/dev/null | head -n 1)
    id=$(head -c 16 /dev/urandom | base64 | sed -e 's|+|-|g' -e 's|/|_|g' -e 's|=||g' -e 's|^-|A|')
    echo "${known:-$id}"
}

format_node() {
    [ -f "$home/data-$1/meta.properties" ] && return
    local quorum=()
    if [ "$brokers" = 1 ]; then quorum=(--standalone); fi
    java -cp "$lib/*" kafka.tools.StorageTool format ${quorum[@]+"${quorum[@]}"} --cluster-id "$2" \
        --config "$(config_file "$1")" >"$home/logs/format-$1.log" 2>&1 ||
        fail "could not format the storage; see $home/logs/format-$1.log"
}

# What the nodes need once. Each step is a Java program, so they run side by side.
prepare() {
    local node step id steps=()
    for ((node = 1; node <= brokers; node++)); do
        configure_node "$node"
    done
    id=$(cluster_id)
    make_certificate &
    steps+=($!)
    for ((node = 1; node <= brokers; node++)); do
        format_node "$node" "$id" &
        steps+=($!)
    done
    for step in "${steps[@]}"; do
        wait "$step" || exit 1
    done
}

start_node() {
    local options=(-Xmx512m)
    # three share a computer's cores: half the work to start, for less speed later
    if [ "$brokers" = 3 ]; then options=(-Xmx384m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC); fi
    if [ -f "$(log_file "$1")" ]; then mv "$(log_file "$1")" "$(log_file "$1").before"; fi
    # a background process of a script ignores Ctrl-C, and nohup the end of the terminal
    nohup java "${options[@]}" -Djava.awt.headless=true -Dlog4j2.level=INFO -cp "$lib/*" \
        kafka.Kafka "$(config_file "$1")" >"$(log_file "$1")" 2>&1 </dev/null &
    echo $! >"$(pid_file "$1")"
}

await_node() {
    local deadline=$((SECONDS + start_timeout_s))
    until grep -qs "Kafka Server started" "$(log_file "$1")" && answers "$(address "$1" PLAINTEXT)"; do
        # not running_pid: a process that just began does not show its arguments yet
        kill -0 "$(cat "$(pid_file "$1")" 2>/dev/null)" 2>/dev/null ||
            fail "node $1 ended while starting; see $(log_file "$1")"
        [ "$SECONDS" -lt "$deadline" ] ||
            fail "node $1 does not answer after ${start_timeout_s} s; see $(log_file "$1")"
        sleep 0.2
    done
}

# The user `streamer`, once for a cluster, also for one that an earlier kafka.sh made without.
make_user() {
    local made=$home/config/user-made-in
    cmp -s "$home/data-1/meta.properties" "$made" && return
    java -cp "$lib/*" kafka.admin.ConfigCommand --bootstrap-server "$(address 1 PLAINTEXT)" --alter \
        --entity-type users --entity-name streamer --add-config "SCRAM-SHA-512=[password=$password]" >"$home/logs/user.log" 2>&1 ||
        fail "could not make the user streamer; see $home/logs/user.log"
    cp "$home/data-1/meta.properties" "$made"
}

up() {
    local node
    if ! any_runs; then
        check_java
        fetch_jars
        prepare
    fi
    for ((node = 1; node <= brokers; node++)); do
        running_pid "$node" >/dev/null || start_node "$node"
    done
    for ((node = 1; node <= brokers; node++)); do
        await_node "$node"
    done
    make_user
}

down() {
    local node pid deadline=$((SECONDS + stop_timeout_s))
    for ((node = 1; node <= brokers; node++)); do
        if pid=$(running_pid "$node"); then kill "$pid" 2>/dev/null || true; fi # it may have ended meanwhile
    done
    for ((node = 1; node <= brokers; node++)); do
        while pid=$(running_pid "$node"); do
            if [ "$SECONDS" -ge "$deadline" ]; then kill -9 "$pid" 2>/dev/null || true; fi
            sleep 0.2
        done
        rm -f "$(pid_file "$node")"
    done
}

status() {
    local node
    for ((node = 1; node <= brokers; node++)); do
        if ! running_pid "$node" >/dev/null || ! answers "$(address "$node" PLAINTEXT)"; then
            if any_runs; then echo "node $node is down" >&2; else echo "down" >&2; fi
            exit 1
        fi
    done
    addresses PLAINTEXT
}

kill_node() {
    local pid
    pid=$(running_pid "$1") || fail "node $1 does not run"
    kill -9 "$pid" 2>/dev/null || true
    while running_pid "$1" >/dev/null; do sleep 0.05; done
    rm -f "$(pid_file "$1")"
}

secure() {
    local servers
    servers=$(addresses TLS)
    [ -n "${servers//,/}" ] || fail "these nodes were started by an earlier kafka.sh; run kafka.sh down, then up"
    cat <<END
kafka:
  bootstrap_servers: $servers
  properties:
    security.protocol: SASL_SSL
    ssl.ca.location: $home/tls/ca.pem
    sasl.mechanism: SCRAM-SHA-512
    sasl.username: streamer
    sasl.password: {file: $home/tls/streamer.password}
END
}

verb=${1:-}
case "$verb $#" in
"up 1" | "down 1" | "status 1" | "addresses 1" | "secure 1" | "pid 2" | "kill 2" | "start 2") ;;
*)
    echo "usage: kafka.sh up|down|status|addresses|secure, or kafka.sh pid|kill|start N" >&2
    exit 2
    ;;
esac
choose_cluster "$verb"
if [ $# = 2 ]; then
    [[ "$2" =~ ^[1-9]$ ]] && [ "$2" -le "$brokers" ] || fail "node $2 does not exist; the last one is $brokers"
fi

case "$verb" in
up)
    take_lock "$home/lock"
    up
    addresses PLAINTEXT
    ;;
down)
    take_lock "$home/lock"
    down
    ;;
status) status ;;
addresses) addresses PLAINTEXT ;;
secure) secure ;;
pid) running_pid "$2" || fail "node $2 is down" ;;
kill) kill_node "$2" ;;
start)
    take_lock "$home/lock"
    [ -f "$(config_file "$2")" ] || fail "node $2 was never started; run kafka.sh up"
    running_pid "$2" >/dev/null || start_node "$2"
    await_node "$2"
    ;;
esac
