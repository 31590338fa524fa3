# shellcheck shell=bash
# What the demo has to see, one function each; 0 means seen. Each prints one line of detail.
# Needs lib/tenants.sh, lib/edges.sh and lib/underlay.sh; CAPTURE from the caller.

PINGS=5

# Every b tenant serves its own secret at the same address and port.
serve_tokens() {
    local vn
    for vn in blue red; do
        tenant 10 "b-$vn" "mkdir -p $DIR && echo $(token "$vn") >$DIR/token-$vn
            (setsid busybox nc -ll -p 7777 -e cat $DIR/token-$vn >/dev/null 2>&1 </dev/null &)"
    done
}

# token VN: the VN's secret, made on first use.
token() {
    [[ -s $DIR/token-$1 ]] || (umask 077 && echo "token-of-$1-$(openssl rand -hex 12)" >"$DIR/token-$1")
    cat "$DIR/token-$1"
}

# ping_across VN ADDRESS: a's tenant pings b's; all answers but the first (ARP) must come.
ping_across() {
    local out
    out=$(tenant 30 "a-$1" "busybox ping -i 0.2 -c $PINGS -W 2 $2") || true
    printf '%s' "$(sed -n 's/^round-trip min\/avg\/max/round trip min\/avg\/max/p' <<<"$out")"
    (($(received <<<"$out") >= PINGS - 1))
}

received() {
    local count
    count=$(sed -n 's/.* \([0-9]*\) packets received.*/\1/p')
    echo "${count:-0}"
}

fetch_token() { tenant 15 "a-$1" "busybox nc -w 10 10.0.0.2 7777 </dev/null"; }

# own_token VN: a's tenant asks 10.0.0.2 and must hear its own VN's secret.
own_token() {
    local heard
    heard=$(fetch_token "$1") || true
    printf '10.0.0.2 said "%s"' "$heard"
    [[ $heard == "$(token "$1")" ]]
}

tcp_rate() { # VN: iperf3 for two seconds; prints the rate, fails without one
    local bits
    bits=$(tenant 30 "a-$1" "iperf3 -c 10.0.0.2 -t 2 -J" | jq -r '.end.sum_received.bits_per_second // 0 | floor') || true
    printf '%d.%d Mb/s' $((${bits:-0} / 1000000)) $((${bits:-0} % 1000000 / 100000))
    ((${bits:-0} > 0))
}

# echo_requests NAME: echo requests this tenant has received, by its own count.
echo_requests() {
    tenant 10 "$1" "cat /proc/net/snmp" | awk '/^Icmp:/ {
        if (!column) { for (i = 2; i <= NF; i++) if ($i == "InEchos") column = i } else print $column }'
}

# nothing_crosses: while blue pings, red's tenants do not receive a single echo request.
nothing_crosses() {
    local blue red_a red_b
    red_a=$(echo_requests a-red) red_b=$(echo_requests b-red) blue=$(echo_requests b-blue)
    tenant 30 a-blue "busybox ping -i 0.2 -c $PINGS -W 2 10.0.0.2" >/dev/null || return 1
    blue=$(($(echo_requests b-blue) - blue))
    red_a=$(($(echo_requests a-red) - red_a)) red_b=$(($(echo_requests b-red) - red_b))
    printf 'echo requests received: b-blue %d, a-red %d, b-red %d' "$blue" "$red_a" "$red_b"
    ((blue >= PINGS - 1 && red_a == 0 && red_b == 0))
}

# only_in_blue: an address that exists in blue answers there and not in red.
only_in_blue() {
    local blue red
    blue=$(tenant 20 a-blue "busybox ping -i 0.2 -c 3 -W 2 $ONLY_BLUE" | received) || true
    red=$(tenant 20 a-red "busybox ping -i 0.2 -c 3 -W 1 $ONLY_BLUE" | received) || true
    printf '%s answered %s of 3 in blue, %s of 3 in red' "$ONLY_BLUE" "$blue" "$red"
    ((blue >= 2 && red == 0))
}

# registered HOST: the authority took all that the host's ports have, the mover too if it is here.
registered() {
    local want=$2 got
    wait_until 15 registered_now "$1" "$want" || true
    got=$(ctl "$1" show ima --json | jq -r '"\(.state), \([.vns[].addresses[] | select(.[2] == "admitted")] | length) addresses registered"') || true
    printf '%s' "$got"
    registered_now "$1" "$want"
}

registered_now() {
    ctl "$1" show ima --json 2>/dev/null | jq -e --argjson want "$2" '.state == "connected"
        and ([.vns[].addresses[] | select(.[2] == "admitted")] | length) == $want' >/dev/null
}

# keys HOST: keys that are in use there.
keys() { ctl "$1" show keys --json | jq length; }

# no_keys_yet: nobody has talked, so there are none.
no_keys_yet() {
    local a b
    a=$(keys a) b=$(keys b)
    printf '%s at host a, %s at host b' "$a" "$b"
    ((a == 0 && b == 0))
}

# keys_on_demand: two networks, one worker at each end: a key for each direction of both.
keys_on_demand() {
    local a b
    a=$(keys a) b=$(keys b)
    printf '%s at host a, %s at host b; no file has one' "$a" "$b"
    ((a == 4 && b == 4)) && ! grep -rqs 'key-file' "$DIR"/*.yaml
}

# opaque: the capture shows ESP and QUIC and nothing of what is inside.
opaque() {
    local packets other
    packets=$(tshark -n -r "$CAPTURE" -Y 'esp and udp.dstport == 4500' 2>/dev/null | wc -l)
    other=$(undisguised "$CAPTURE" | wc -l)
    printf '%d ESP packets; %d other than ESP, QUIC, ARP and neighbour discovery' "$packets" "$other"
    ((packets > 0 && other == 0)) || return 1
    ! readable "$CAPTURE" "$(token blue)" "$(token red)"
}

spis() { ctl a show keys --json | jq -r --arg vn "$1" '[.[] | select(.vn == $vn and .direction == "outbound") | .spi] | sort | join(" ")'; }

# rekeyed VN: the stream below must have worn a key out.
tcp_with_rekey() {
    local before after rate
    before=$(spis "$1")
    rate=$(tcp_rate "$1") || { printf '%s' "$rate" && return 1; }
    after=$(spis "$1")
    printf '%s; outbound SPI before %s, after %s' "$rate" "$before" "$after"
    [[ -n $after && $before != "$after" ]]
}

# moved: the mover answers a's tenant from host b, then from host a, and the former host's mapping is
# gone everywhere.
moved() {
    local there here where deadline
    start_mover b
    there=$(mover_answers)
    stop_mover
    declare_overlay a >/dev/null
    start_mover a
    here=$(mover_answers)
    where=$(ima show mappings blue --json | jq -r --arg mac "$MOVER_MAC" '.[] | select(.mac == $mac) | .edge')
    printf 'at host b %s of 3 answered, at host a %s of 3; now mapped to %s' "$there" "$here" "$where"
    ((there >= 2 && here >= 2)) && [[ $where == host-a ]]
}

mover_answers() { tenant 30 a-blue "busybox ping -i 0.3 -c 3 -W 2 ${MOVER_IPS%% *}" | received; }

# revoked: the operator's word is enough, whatever host b still has in its memory.
revoked() {
    local began=$EPOCHREALTIME took left
    ima revoke host-b --reason 'the demo says so' >/dev/null || return 1
    wait_until 10 lost_everything || true
    took=$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
    left=$(tenant 20 a-blue "busybox ping -i 0.3 -c 3 -W 1 10.0.0.2" | received) || true
    printf 'after %s s host a has %s keys with host b, host b has %s; %s of 3 pings answered' \
        "$took" "$(keys a)" "$(keys b)" "$left"
    lost_everything && ((left == 0))
}

lost_everything() { (($(keys a) == 0 && $(keys b) == 0)); }

# counters_settle VN: the two ends agree as soon as nothing is under way.
counters_settle() {
    local figures deadline=$((SECONDS + 10))
    until figures=$(counters_agree "$1" 2>/dev/null); do
        if ((SECONDS >= deadline)); then
            printf '%s' "$figures"
            return 1
        fi
        sleep 0.5
    done
    printf '%s' "$figures"
}
