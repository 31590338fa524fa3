# shellcheck shell=bash
# What an observer of the underlay can and cannot read. Needs lib/common.sh and tshark.

# sa_line KEYFILE SPI SOURCE DESTINATION: one row of tshark's table of ESP associations.
# The key file is hex, the key and then the 4-byte salt, as tshark wants it too.
sa_line() {
    local version=IPv4
    [[ $3 != *:* ]] || version=IPv6
    printf '"%s","%s","%s","0x%08x","AES-GCM with 16 octet ICV [RFC4106]","0x%s","NULL",""\n' \
        "$version" "$3" "$4" "$2" "$(tr -d '[:space:]' <"$1")"
}

# decrypt CAPTURE SA_FILE ARGUMENTS…: tshark with the keys. Its own check of the ICV (4.0)
# knows no extended sequence numbers and would call every packet bad: only decryption is on.
decrypt() {
    local capture=$1 line args=()
    while IFS= read -r line; do args+=(-o "uat:esp_sa:$line"); done <"$2"
    shift 2
    tshark -n -r "$capture" -o esp.enable_encryption_decode:TRUE "${args[@]}" "$@" 2>/dev/null
}

# undisguised CAPTURE: the packets that are neither ESP in UDP port 4500 nor the hosts'
# own ARP and neighbour discovery.
undisguised() {
    tshark -n -r "$1" -Y '!(esp and udp.dstport == 4500) and !arp and !icmpv6' 2>/dev/null
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
