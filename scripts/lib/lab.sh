# shellcheck shell=bash
# Two hosts on one machine: the namespaces PREFIX-a and PREFIX-b, joined through PREFIX-wire.
#
#   PREFIX-a: vh0 ── wa ┐                ┌ wb ── vh0 :PREFIX-b
#                       └ br0 (observer) ┘
#
# The observer sees every packet, whatever driver the hosts use. With memif there is no
# kernel interface at the hosts: a testpmd in PREFIX-wire then relays memif ↔ tap, and the
# taps wa and wb are what is bridged.
#
# Needs lib/common.sh.

# lab_create PREFIX UNDERLAY MTU: makes the namespaces anew. UNDERLAY: af_packet|af_xdp|memif.
lab_create() {
    local prefix=$1 underlay=$2 mtu=$3 host
    lab_destroy "$prefix"
    mkdir -p "$RUN_ROOT/$prefix"
    for host in a b wire; do
        ip netns add "$prefix-$host"
        # Nothing but the laboratory's own traffic is to be on the wire.
        ip netns exec "$prefix-$host" sysctl -qw net.ipv6.conf.default.accept_ra=0
        ip -n "$prefix-$host" link set lo up
    done
    ip netns exec "$prefix-wire" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 \
        net.ipv6.conf.default.disable_ipv6=1
    ip -n "$prefix-wire" link add br0 mtu "$mtu" type bridge mcast_snooping 0 forward_delay 0
    ip -n "$prefix-wire" link set br0 up
    if [[ $underlay == memif ]]; then
        lab_relay "$prefix"
    else
        for host in a b; do
            ip -n "$prefix-wire" link add "w$host" type veth peer name vh0 netns "$prefix-$host"
            # The kernel must not speak on the port's interface beside the switch.
            ip netns exec "$prefix-$host" sysctl -qw net.ipv6.conf.vh0.disable_ipv6=1
            lab_offloads_off "$prefix-$host" vh0
            ip -n "$prefix-$host" link set vh0 mtu "$mtu" up
        done
    fi
    for host in a b; do
        lab_offloads_off "$prefix-wire" "w$host"
        ip -n "$prefix-wire" link set "w$host" mtu "$mtu" master br0 up
    done
}

# Packets that wait for their checksum or for segmentation are no good to a raw socket.
lab_offloads_off() {
    ip netns exec "$1" ethtool -K "$2" rx off tx off sg off tso off gso off gro off >/dev/null 2>&1 || true
}

# lab_relay PREFIX: testpmd between the hosts' memif sockets and the taps wa and wb.
lab_relay() {
    local prefix=$1 dir=$RUN_ROOT/$1
    nice -n 5 ip netns exec "$prefix-wire" dpdk-testpmd --no-huge -m 256 --no-pci \
        --file-prefix "$prefix-relay" --lcores "0@(0-$(($(nproc) - 1))),1@(0-$(($(nproc) - 1)))" \
        --vdev "net_memif0,role=server,id=0,socket=$dir/memif-a.sock,socket-abstract=no" \
        --vdev net_tap0,iface=wa \
        --vdev "net_memif1,role=server,id=0,socket=$dir/memif-b.sock,socket-abstract=no" \
        --vdev net_tap1,iface=wb \
        -- --forward-mode=io --port-topology=paired --total-num-mbufs=8192 --no-mlockall \
        --auto-start --stats-period 600 </dev/null >"$dir/relay.log" 2>&1 &
    echo $! >"$dir/relay.pid"
    wait_until 20 ip -n "$prefix-wire" link show wb || die "the memif relay did not start: $dir/relay.log"
}

# lab_device PREFIX HOST UNDERLAY: the DPDK device of a host's underlay port.
lab_device() {
    case $3 in
    memif) echo "net_memif0,role=client,id=0,socket=$RUN_ROOT/$1/memif-$2.sock,socket-abstract=no" ;;
    # Room for what arrives while the switch waits for its core, which here it shares: the kernel
    # drops what does not fit, and the counters of both ends could not agree.
    af_packet) echo "net_af_packet0,iface=vh0,framecnt=8192" ;;
    *) echo "net_${3}0,iface=vh0" ;;
    esac
}

# lab_capture PREFIX FILE FILTER…: starts tcpdump at the observer and waits until it listens.
lab_capture() {
    local prefix=$1 file=$2
    shift 2
    # -Z root: the file's directory is root's alone.
    ip netns exec "$prefix-wire" tcpdump -Z root -i br0 -n -U --immediate-mode -B 16384 -w "$file" "$@" \
        </dev/null >"$file.log" 2>&1 &
    echo $! >"$file.pid"
    wait_until 10 grep -q 'listening on' "$file.log" || die "tcpdump did not start: $(<"$file.log")"
}

lab_capture_stop() { stop_process "$1.pid"; }

# lab_destroy PREFIX: ends what runs in the namespaces, then removes them.
lab_destroy() {
    local prefix=$1 host pid
    stop_process "$RUN_ROOT/$prefix/relay.pid"
    for host in a b ima wire; do
        [[ -e /run/netns/$prefix-$host ]] || continue
        for pid in $(ip netns pids "$prefix-$host"); do kill -KILL "$pid" 2>/dev/null || true; done
        ip netns del "$prefix-$host"
    done
    [[ -z $prefix ]] || rm -rf "${RUN_ROOT:?}/$prefix"
}
