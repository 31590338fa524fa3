# shellcheck shell=bash
# shellcheck disable=SC2034 # MAC_a and its like are used by name: ${!mac}
# The demo's two edges: configuration files, daemons, counters.
# Needs lib/common.sh and lib/lab.sh; PREFIX, DIR, UNDERLAY, TENANTS, FAMILY from the caller.

# The same in both VNs, on purpose.
MAC_a=52:54:00:00:00:01 MAC_b=52:54:00:00:00:02
IPS_a='10.0.0.1 fd00::1' IPS_b='10.0.0.2 fd00::2'
# Host b's blue tenant alone has this one as well.
ONLY_BLUE=10.0.0.9
# The machine in blue that moves from host b to host a.
MOVER_MAC=52:54:00:00:00:03 MOVER_IPS='10.0.0.3 fd00::3'
# AES blocks after which a key is replaced: some 3 MB, so that the demo's TCP streams see it happen.
REKEY_BLOCKS=200000
CONTROL_PORT=4600
# DPDK 22.11's af_packet takes no frame above 1518 bytes, so the tenants get less: Geneve in ESP
# adds at most 95 bytes over IPv4, 115 over IPv6.
UNDERLAY_MTU=1500 TENANT_MTU=1380

underlay_address() {
    case $FAMILY.$1 in
    4.a) echo 192.0.2.1 ;; 4.b) echo 192.0.2.2 ;; 4.ima) echo 192.0.2.250 ;;
    6.a) echo 2001:db8::1 ;; 6.b) echo 2001:db8::2 ;; 6.ima) echo 2001:db8::fa ;;
    esac
}

underlay_prefix() { if [[ $FAMILY == 4 ]]; then echo 24; else echo 64; fi; }

# control_endpoint HOST: where a host's control plane listens.
control_endpoint() {
    if [[ $FAMILY == 4 ]]; then
        echo "$(underlay_address "$1"):$CONTROL_PORT"
    else
        echo "[$(underlay_address "$1")]:$CONTROL_PORT"
    fi
}

other() { if [[ $1 == a ]]; then echo b; else echo a; fi; }

tenant_ips() { # VN HOST
    local ips=IPS_$2
    echo "${!ips}$([[ $1.$2 != blue.b ]] || echo " $ONLY_BLUE")"
}

# yaml_list ITEM…: in YAML's brackets. The quotes are for IPv6 addresses.
yaml_list() {
    local item list=()
    for item in "$@"; do list+=("\"$item\""); done
    local IFS=,
    echo "${list[*]}"
}

# write_config HOST CORE: an edge is told who it is, where the authority is, and which ports it has.
# VNIs, other edges, mappings and keys are in no file.
write_config() {
    local host=$1 core=$2 name mac
    mac=MAC_$host
    cat <<END
# Edge of host $host, written by scripts/demo.
nve: {name: host-$host}
eal:
  memory: auto
  memory-mb: 512
  file-prefix: $PREFIX-$host
workers:
  cores: [$core]
  idle: yield
state-dir: $DIR/state-$host
api: {socket: $DIR/$host.sock}
security-log: {file: $DIR/security-$host.jsonl}
underlay:
  local: ["$(underlay_address "$host")"]
  ports:
    - name: up0
      device: "$(lab_device "$PREFIX" "$host" "$UNDERLAY")"
      mtu: $UNDERLAY_MTU
      addresses: ["$(underlay_address "$host")/$(underlay_prefix)"]
      tap: vsw0
authority:
  servers: ["$(control_endpoint ima)"]
  certificate: $DIR/ca/nve/host-$host/svid.pem
  private-key: $DIR/ca/nve/host-$host/svid_key.pem
  bundle: $DIR/ca/nve/host-$host/bundle.pem
  listen: "$(control_endpoint "$host")"
  rekey-blocks: $REKEY_BLOCKS
vns: [{name: blue}, {name: red}]
ports:
END
    for name in blue red; do
        # shellcheck disable=SC2046 # words are wanted
        port_config "$host-$name" "$name" "${!mac}" $(tenant_ips "$name" "$host")
    done
    # shellcheck disable=SC2086 # words are wanted
    port_config "$host-mover" blue "$MOVER_MAC" $MOVER_IPS
}

port_config() { # NAME VN MAC IP…
    cat <<END
  - name: $1
    vn: $2
    vhost: {socket: $DIR/$1.sock, mode: client, peer-uid: $EUID}
    addresses:
      - {mac: "$3", ips: [$(yaml_list "${@:4}")]}
END
}

ctl() { # HOST ARGUMENTS…
    local host=$1
    shift
    "$BIN/vswitchctl" --socket "$DIR/$host.sock" "$@"
}

# start_edge HOST: in the background; await_edge waits until it answers.
start_edge() {
    (umask 077 && mkdir -p "$DIR/state-$1")
    ip netns exec "$PREFIX-$1" "$BIN/vswitchd" --config "$DIR/$1.yaml" </dev/null >"$DIR/$1.log" 2>&1 &
    echo $! >"$DIR/$1.pid"
}

edge_answers_or_ended() { process_gone "$(<"$DIR/$1.pid")" || ctl "$1" show ports --json; }

await_edge() {
    wait_until 20 edge_answers_or_ended "$1" || true
    ctl "$1" show ports --json >/dev/null 2>&1 && return 0
    tail -n 20 "$DIR/$1.log" >&2
    die "the edge of host $1 does not answer"
}

# counters_agree VN: what one end sent is what the other received, in both directions, packets
# and bytes. Prints the figures; call it again while packets are under way.
counters_agree() {
    jq --slurp --raw-output --arg vn "$1" '
        def count($host; $direction; $unit):
            [(.[$host] | .tunnels? // .)[] | select(.vn == $vn) | .traffic["\($direction)_\($unit)"]] | add;
        . as $in | [[0, 1, "a→b"], [1, 0, "b→a"]] | map(. as [$from, $to, $way] | ["packets", "bytes"][] | . as $unit
            | {$way, $unit, sent: ($in | count($from; "tx"; $unit)), received: ($in | count($to; "rx"; $unit))})
        | (map("\(.way) \(.sent) \(.unit) sent, \(.received) received") | join("; ")),
          if all(.sent == .received and .sent > 0) then empty else "" | halt_error(1) end
    ' < <(ctl a show tunnels --json && ctl b show tunnels --json)
}
