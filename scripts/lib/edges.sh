# shellcheck shell=bash
# shellcheck disable=SC2034 # VNI_blue and its like are used by name: ${!vni}
# The demo's two edges: keys, configuration files, daemons, counters.
# Needs lib/common.sh and lib/lab.sh; PREFIX, DIR, UNDERLAY, TENANTS, FAMILY from the caller.

VNI_blue=1001 VNI_red=2002
ALGORITHM_blue=aes-256-gcm ALGORITHM_red=aes-128-gcm
KEY_BYTES_blue=36 KEY_BYTES_red=20 # key and 4-byte salt
# The same in both VNs, on purpose.
MAC_a=52:54:00:00:00:01 MAC_b=52:54:00:00:00:02
IPS_a='10.0.0.1 fd00::1' IPS_b='10.0.0.2 fd00::2'
# Host b's blue tenant alone has this one as well.
ONLY_BLUE=10.0.0.9
# DPDK 22.11's af_packet takes no frame above 1518 bytes, so the tenants get less: Geneve in ESP
# adds at most 95 bytes over IPv4, 115 over IPv6.
UNDERLAY_MTU=1500 TENANT_MTU=1380

underlay_address() {
    case $FAMILY.$1 in
    4.a) echo 192.0.2.1 ;; 4.b) echo 192.0.2.2 ;;
    6.a) echo 2001:db8::1 ;; 6.b) echo 2001:db8::2 ;;
    esac
}

other() { if [[ $1 == a ]]; then echo b; else echo a; fi; }

# spi VN SENDER
spi() {
    local vni=VNI_$1
    if [[ $2 == a ]]; then echo $((0x10000 + ${!vni})); else echo $((0x20000 + ${!vni})); fi
}

key_file() { echo "$DIR/keys/$1-from-$2.key"; } # VN SENDER

tenant_ips() { # VN HOST
    local ips=IPS_$2
    echo "${!ips}$([[ $1.$2 != blue.b ]] || echo " $ONLY_BLUE")"
}

# The same in YAML's brackets. The quotes are for IPv6 addresses.
tenant_ips_yaml() {
    local ip list=()
    for ip in $(tenant_ips "$1" "$2"); do list+=("\"$ip\""); done
    local IFS=,
    echo "${list[*]}"
}

make_keys() {
    local vn sender bytes
    (umask 077 && mkdir -p "$DIR/keys")
    for vn in blue red; do
        for sender in a b; do
            bytes=KEY_BYTES_$vn
            (umask 077 && openssl rand -hex "${!bytes}" >"$(key_file "$vn" "$sender")")
        done
    done
    (umask 077 && esp_table >"$DIR/esp_sa")
}

# esp_table: tshark's view of all four associations.
esp_table() {
    local vn sender
    for vn in blue red; do
        for sender in a b; do
            sa_line "$(key_file "$vn" "$sender")" "$(spi "$vn" "$sender")" \
                "$(underlay_address "$sender")" "$(underlay_address "$(other "$sender")")"
        done
    done
}

# write_config HOST CORE
write_config() {
    local host=$1 core=$2 peer vn vni mac algorithm peer_mac len
    if [[ $FAMILY == 4 ]]; then len=24; else len=64; fi
    peer=$(other "$host")
    mac=MAC_$host peer_mac=MAC_$peer
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
underlay:
  local: ["$(underlay_address "$host")"]
  ports:
    - name: up0
      device: "$(lab_device "$PREFIX" "$host" "$UNDERLAY")"
      mtu: $UNDERLAY_MTU
      addresses: ["$(underlay_address "$host")/$len"]
      tap: vsw0
peers:
  - {name: host-$peer, addresses: ["$(underlay_address "$peer")"]}
vns:
END
    for vn in blue red; do
        vni=VNI_$vn
        cat <<END
  - name: $vn
    vni: ${!vni}
    edges: [host-$peer]
    mappings:
      - {mac: "${!peer_mac}", ips: [$(tenant_ips_yaml "$vn" "$peer")], peer: host-$peer}
END
    done
    echo "ports:"
    for vn in blue red; do
        cat <<END
  - name: $host-$vn
    vn: $vn
    vhost: {socket: $DIR/$host-$vn.sock, mode: client, peer-uid: $EUID}
    addresses:
      - {mac: "${!mac}", ips: [$(tenant_ips_yaml "$vn" "$host")]}
END
    done
    echo "security-associations:"
    for vn in blue red; do
        algorithm=ALGORITHM_$vn
        cat <<END
  - {vn: $vn, peer: host-$peer, direction: outbound, worker: 0, spi: $(spi "$vn" "$host"),
     algorithm: ${!algorithm}, key-file: keys/$vn-from-$host.key}
  - {vn: $vn, peer: host-$peer, direction: inbound, worker: 0, spi: $(spi "$vn" "$peer"),
     algorithm: ${!algorithm}, key-file: keys/$vn-from-$peer.key}
END
    done
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
