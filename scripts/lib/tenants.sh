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
    local name pid
    case $TENANTS in
    qemu) for name in "${TENANT_NAMES[@]}"; do "$ROOT/scripts/guests/stop" "$name"; done ;;
    virtio_user)
        stop_process "$DIR/tenants.pid"
        for name in "${TENANT_NAMES[@]}"; do
            [[ -e /run/netns/$PREFIX-$name ]] || continue
            for pid in $(ip netns pids "$PREFIX-$name"); do kill -KILL "$pid" 2>/dev/null || true; done
            ip netns del "$PREFIX-$name"
        done
        ;;
    esac
}

tenant_addresses() { # NAME, with prefix lengths
    local ip
    for ip in $(tenant_ips "${1#*-}" "${1%%-*}"); do
        case $ip in
        *:*) echo "$ip/64" ;;
        *) echo "$ip/24" ;;
        esac
    done
}

tenant_mac() {
    local mac=MAC_${1%%-*}
    echo "${!mac}"
}

start_qemu() {
    local name addresses
    "$ROOT/scripts/guests/build"
    for name in "${TENANT_NAMES[@]}"; do
        mapfile -t addresses < <(tenant_addresses "$name")
        # The switch is the vhost client and reconnects, whoever of the two restarts.
        "$ROOT/scripts/guests/run" "$name" "$DIR/$name.sock" "$(tenant_mac "$name")" "${addresses[@]}" \
            --mtu "$TENANT_MTU" --iperf
    done
}

start_virtio_user() {
    local name address index=0 devices=() cores
    cores="0-$(($(nproc) - 1))"
    for name in "${TENANT_NAMES[@]}"; do
        ip netns add "$PREFIX-$name"
        ip -n "$PREFIX-$name" link set lo up
        devices+=(--vdev "net_virtio_user$index,path=$DIR/$name.sock,queues=1,server=1,mac=$(tenant_mac "$name")"
            --vdev "net_tap$index,iface=t-$name")
        index=$((index + 1))
    done
    # One testpmd for all, at a lower priority: it polls, and two cores are few.
    nice -n 10 dpdk-testpmd --no-huge -m 512 --no-pci --file-prefix "$PREFIX-tenants" \
        --lcores "0@($cores),1@($cores)" "${devices[@]}" \
        -- --forward-mode=io --port-topology=paired --total-num-mbufs=16384 --no-mlockall \
        --auto-start --stats-period 600 </dev/null >"$DIR/tenants.log" 2>&1 &
    echo $! >"$DIR/tenants.pid"
    # testpmd starts to forward when all four ports have met their switch.
    wait_until 30 grep -q 'Press enter to exit\|Port statistics' "$DIR/tenants.log" ||
        die "the tenants' testpmd did not start: $DIR/tenants.log"
    for name in "${TENANT_NAMES[@]}"; do
        ip link set "t-$name" netns "$PREFIX-$name"
        ip -n "$PREFIX-$name" link set "t-$name" name eth0 mtu "$TENANT_MTU" \
            address "$(tenant_mac "$name")" up
        for address in $(tenant_addresses "$name"); do
            case $address in
            *:*) ip -n "$PREFIX-$name" address add "$address" dev eth0 nodad ;;
            *) ip -n "$PREFIX-$name" address add "$address" dev eth0 ;;
            esac
        done
        ip netns exec "$PREFIX-$name" iperf3 -s -D
    done
}
