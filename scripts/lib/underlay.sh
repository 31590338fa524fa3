# shellcheck shell=bash
# What an observer of the underlay can and cannot read. Needs lib/common.sh and tshark; CONTROL_PORT
# from the caller.

# undisguised CAPTURE: the packets that are neither ESP in UDP port 4500 nor the control plane's
# QUIC, nor the hosts' own ARP and neighbour discovery.
undisguised() {
    tshark -n -r "$1" -d "udp.port==$CONTROL_PORT,quic" \
        -Y '!(esp and udp.dstport == 4500) and !quic and !arp and !icmpv6' 2>/dev/null
}

# readable CAPTURE STRING…: whether any of the strings is anywhere in the file.
readable() {
    local capture=$1 string
    shift
    for string in "$@"; do
        if grep -qaF -- "$string" "$capture"; then return 0; fi
    done
    return 1
}
