# shellcheck shell=bash
# The demo's mapping authority, on a host of its own beside the two, with a laboratory's CA.
# Needs lib/common.sh, lib/lab.sh and lib/edges.sh; PREFIX, DIR, FAMILY from the caller.

# shellcheck disable=SC2034 # used by name: ${!vni}
VNI_blue=1001 VNI_red=2002
DOMAIN=demo.example

# Who is who: two edges, the authority, an operator.
make_identities() {
    local who
    (umask 077 && "$BIN/vswitchctl" pki init "$DIR/ca" --domain "$DOMAIN") >/dev/null
    for who in 'nve host-a' 'nve host-b' 'ima ima-1' 'operator demo'; do
        # shellcheck disable=SC2086 # role and name
        (umask 077 && "$BIN/vswitchctl" pki issue "$DIR/ca" $who) >/dev/null
    done
}

# start_authority: a namespace with an interface on the wire, and the daemon in it.
start_authority() {
    ip netns add "$PREFIX-ima"
    ip -n "$PREFIX-ima" link set lo up
    ip -n "$PREFIX-wire" link add wima type veth peer name eth0 netns "$PREFIX-ima"
    lab_offloads_off "$PREFIX-wire" wima
    lab_offloads_off "$PREFIX-ima" eth0
    ip -n "$PREFIX-wire" link set wima mtu "$UNDERLAY_MTU" master br0 up
    ip -n "$PREFIX-ima" link set eth0 mtu "$UNDERLAY_MTU" up
    local address
    address=$(underlay_address ima)/$(underlay_prefix)
    if [[ $FAMILY == 4 ]]; then
        ip -n "$PREFIX-ima" address add "$address" dev eth0
    else
        ip -n "$PREFIX-ima" address add "$address" dev eth0 nodad
    fi
    cat >"$DIR/ima.yaml" <<END
listen: "$(control_endpoint ima)"
credentials: $DIR/ca/ima/ima-1
store: {redb: $DIR/ima.redb}
END
    ip netns exec "$PREFIX-ima" "$BIN/vswitch-ima" run --config "$DIR/ima.yaml" </dev/null \
        >"$DIR/ima.log" 2>&1 &
    echo $! >"$DIR/ima.pid"
    wait_until 20 ima show vns || {
        tail -n 20 "$DIR/ima.log" >&2
        die "the authority does not answer"
    }
}

# ima ARGUMENTS…: as the operator `demo`.
ima() {
    ip netns exec "$PREFIX-ima" "$BIN/vswitchctl" ima --server "$(control_endpoint ima)" \
        --credentials "$DIR/ca/operator/demo" "$@"
}

# placement NVE PORT MAC IP…
placement() {
    echo "      - {mac: \"$3\", ips: [$(yaml_list "${@:4}")], nve: $1, port: $2}"
}

# declare_overlay HOST: all that the operator declares; the mover is on HOST.
declare_overlay() {
    local vn vni host mac
    {
        echo "networks:"
        for vn in blue red; do
            vni=VNI_$vn
            printf '  %s:\n    vni: %s\n    members: [host-a, host-b]\n    placements:\n' "$vn" "${!vni}"
            for host in a b; do
                mac=MAC_$host
                # shellcheck disable=SC2046 # words are wanted
                placement "host-$host" "$host-$vn" "${!mac}" $(tenant_ips "$vn" "$host")
            done
            # shellcheck disable=SC2086 # words are wanted
            [[ $vn != blue ]] || placement "host-$1" "$1-mover" "$MOVER_MAC" $MOVER_IPS
        done
    } >"$DIR/overlay.yaml"
    ima apply "$DIR/overlay.yaml"
}
