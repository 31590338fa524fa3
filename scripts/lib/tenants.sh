# shellcheck shell=bash
# The demo's tenants, one per host and VN, named a-blue, b-blue, a-red, b-red: QEMU guests,
# or namespaces whose tap a testpmd joins to a virtio-user port. The same commands run in both.
# Needs lib/common.sh and lib/edges.sh; PREFIX, DIR, TENANTS from the caller.

TENANT_NAMES=(a-blue b-blue a-red b-red)

start_tenants() { "start_$TENANTS"; }

# tenant TIMEOUT NAME COMMAND: runs a shell line in a tenant.
tenant() {
    local seconds=$1 name=$2 script=$3
    case $TENANTS in
    qemu) "$ROOT/scripts/guests/exec" "$name" --timeout "$seconds" -- "$script" ;;
    virtio_user) timeout -k 2 "$seconds" ip netns exec "$PREFIX-$name" sh -c "$script" </dev/null ;;
    esac
}

stop_tenants() {
    local name
    stop_mover
    case $TENANTS in
    qemu) for name in "${TENANT_NAMES[@]}"; do "$ROOT/scripts/guests/stop" "$name"; done ;;
    virtio_user)
        stop_process "$DIR/tenants.pid"
        for name in "${TENANT_NAMES[@]}"; do tenant_gone "$name"; done
        ;;
    esac
}

tenant_addresses() { # NAME, with prefix lengths
    local ip ips
    case $1 in
    *-mover) ips=$MOVER_IPS ;;
    *) ips=$(tenant_ips "${1#*-}" "${1%%-*}") ;;
    esac
    for ip in $ips; do
        case $ip in
        *:*) echo "$ip/64" ;;
        *) echo "$ip/24" ;;
        esac
    done
}

tenant_mac() {
    local mac=MAC_${1%%-*}
    [[ $1 != *-mover ]] || mac=MOVER_MAC
    echo "${!mac}"
}

start_qemu() {
    local name
    "$ROOT/scripts/guests/build"
    for name in "${TENANT_NAMES[@]}"; do start_guest "$name"; done
}

start_guest() { # NAME
    local addresses
    mapfile -t addresses < <(tenant_addresses "$1")
    # The switch is the vhost client and reconnects, whoever of the two restarts.
    "$ROOT/scripts/guests/run" "$1" "$DIR/$1.sock" "$(tenant_mac "$1")" "${addresses[@]}" \
        --mtu "$TENANT_MTU" --iperf
}

start_virtio_user() {
    local name
    start_testpmd tenants "${TENANT_NAMES[@]}"
    for name in "${TENANT_NAMES[@]}"; do ip netns exec "$PREFIX-$name" iperf3 -s -D; done
}

# start_testpmd WHO NAME…: one testpmd for these tenants, at a lower priority: it polls, and two cores
# are few.
start_testpmd() {
    local who=$1 name address index=0 devices=() cores
    shift
    cores="0-$(($(nproc) - 1))"
    for name in "$@"; do
        ip netns add "$PREFIX-$name"
        ip -n "$PREFIX-$name" link set lo up
        devices+=(--vdev "net_virtio_user$index,path=$DIR/$name.sock,queues=1,server=1,mac=$(tenant_mac "$name")"
            --vdev "net_tap$index,iface=t-$name")
        index=$((index + 1))
    done
    nice -n 10 dpdk-testpmd --no-huge -m 512 --no-pci --file-prefix "$PREFIX-$who" \
        --lcores "0@($cores),1@($cores)" "${devices[@]}" \
        -- --forward-mode=io --port-topology=paired --total-num-mbufs=16384 --no-mlockall \
        --auto-start --stats-period 600 </dev/null >"$DIR/$who.log" 2>&1 &
    echo $! >"$DIR/$who.pid"
    # testpmd starts to forward when all ports have met their switch.
    wait_until 30 grep -q 'Press enter to exit\|Port statistics' "$DIR/$who.log" ||
        die "testpmd did not start: $DIR/$who.log"
    for name in "$@"; do
        ip link set "t-$name" netns "$PREFIX-$name"
        ip -n "$PREFIX-$name" link set "t-$name" name eth0 mtu "$TENANT_MTU" \
            address "$(tenant_mac "$name")" up
        for address in $(tenant_addresses "$name"); do
            case $address in
            *:*) ip -n "$PREFIX-$name" address add "$address" dev eth0 nodad ;;
            *) ip -n "$PREFIX-$name" address add "$address" dev eth0 ;;
            esac
        done
    done
}

# start_mover HOST: the machine that moves, at this host.
start_mover() {
    mover=$1-mover
    case $TENANTS in
    qemu) start_guest "$mover" ;;
    virtio_user) start_testpmd mover "$mover" ;;
    esac
    wait_until 60 tenant 20 "$mover" true || die "$mover does not run"
}

# stop_mover: wherever it is.
stop_mover() {
    local name
    for name in a-mover b-mover; do
        case $TENANTS in
        qemu) "$ROOT/scripts/guests/stop" "$name" ;;
        virtio_user)
            stop_process "$DIR/mover.pid"
            tenant_gone "$name"
            ;;
        esac
    done
}

tenant_gone() { # NAME
    local pid
    [[ -e /run/netns/$PREFIX-$1 ]] || return 0
    for pid in $(ip netns pids "$PREFIX-$1"); do kill -KILL "$pid" 2>/dev/null || true; done
    ip netns del "$PREFIX-$1"
}
