# shellcheck shell=bash
# shellcheck disable=SC2034 # used by those who source this
# What every script here needs: where things are, how to speak, how to fail.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Unix socket paths end at 108 bytes, so everything that runs lives in a short place.
RUN_ROOT=${VSWITCH_LAB_DIR:-/run/vswitch-lab}
GUEST_IMAGE=${VSWITCH_GUEST_IMAGE:-$ROOT/target/guest}
OVS_DIR=${VSWITCH_OVS:-$ROOT/target/ovs}
ETCD_DIR=${VSWITCH_ETCD:-$ROOT/target/etcd}
STARTED=${EPOCHREALTIME/./}

export LC_ALL=C
# /usr/sbin is not in everybody's PATH, cargo often is not in root's.
export PATH=$PATH:/usr/sbin:/sbin
if ! command -v cargo >/dev/null && [[ -x ${HOME:-/root}/.cargo/bin/cargo ]]; then
    PATH=$PATH:${HOME:-/root}/.cargo/bin
fi

# say TEXT: one line with the seconds since the script began.
say() {
    local now=${EPOCHREALTIME/./}
    local ms=$(((now - STARTED) / 1000))
    printf '[%3d.%d s] %s\n' $((ms / 1000)) $((ms % 1000 / 100)) "$*"
}

warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

need_root() { ((EUID == 0)) || die "this needs root (namespaces, hugepages, raw sockets)"; }

# wait_until SECONDS COMMAND…: runs COMMAND every 0.1 s until it succeeds.
wait_until() {
    local deadline=$((${EPOCHREALTIME/./} + $1 * 1000000))
    shift
    until "$@" >/dev/null 2>&1; do
        ((${EPOCHREALTIME/./} < deadline)) || return 1
        sleep 0.1
    done
}

# stop_process PIDFILE: TERM, then KILL after five seconds; the file goes too.
stop_process() {
    local pid
    [[ -s $1 ]] || return 0
    pid=$(<"$1")
    if kill "$pid" 2>/dev/null; then
        wait_until 5 process_gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
    fi
    rm -f "$1"
}

process_gone() { ! kill -0 "$1" 2>/dev/null || [[ $(ps -o stat= -p "$1") == Z* ]]; }
