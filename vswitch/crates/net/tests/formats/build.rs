//! A second, plain way to build packets: octets joined by hand, nothing of the crate's structs.

use proptest::prelude::*;

/// RFC 1071, the plain way, over all of `bytes`.
pub(crate) fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

pub(crate) fn ethernet(dst: [u8; 6], src: [u8; 6], tags: &[u16], ethertype: u16) -> Vec<u8> {
    let mut out = [dst, src].concat();
    for (nth, tci) in tags.iter().enumerate() {
        // All but the last as service tags.
        let kind: u16 = if nth + 1 < tags.len() { 0x88a8 } else { 0x8100 };
        out.extend(kind.to_be_bytes());
        out.extend(tci.to_be_bytes());
    }
    out.extend(ethertype.to_be_bytes());
    out
}

pub(crate) struct V4 {
    pub(crate) src: [u8; 4],
    pub(crate) dst: [u8; 4],
    pub(crate) protocol: u8,
    pub(crate) options: usize,
    pub(crate) flags_fragment: u16,
}

pub(crate) fn ipv4(v4: &V4, payload: &[u8]) -> Vec<u8> {
    let header = 20 + v4.options * 4;
    let mut out = vec![0x45 + v4.options as u8, 0];
    out.extend(((header + payload.len()) as u16).to_be_bytes());
    out.extend([0x12, 0x34]);
    out.extend(v4.flags_fragment.to_be_bytes());
    out.extend([64, v4.protocol, 0, 0]);
    out.extend(v4.src);
    out.extend(v4.dst);
    out.resize(header, 1);
    let sum = naive_sum(&out).to_be_bytes();
    out[10..12].copy_from_slice(&sum);
    out.extend(payload);
    out
}

/// Extension headers: the type of each and its octets, whose first is set here.
pub(crate) fn ipv6(
    src: [u8; 16],
    dst: [u8; 16],
    hop_limit: u8,
    extensions: &[(u8, Vec<u8>)],
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let len: usize = extensions.iter().map(|(_, e)| e.len()).sum::<usize>() + payload.len();
    let next = |nth: usize| extensions.get(nth).map_or(protocol, |(ty, _)| *ty);
    let mut out = vec![0x60, 0, 0, 0];
    out.extend((len as u16).to_be_bytes());
    out.extend([next(0), hop_limit]);
    out.extend(src);
    out.extend(dst);
    for (nth, (_, extension)) in extensions.iter().enumerate() {
        out.push(next(nth + 1));
        out.extend(&extension[1..]);
    }
    out.extend(payload);
    out
}

/// An options header (hop-by-hop or destination) of `units` times 8 octets.
pub(crate) fn options(units: u8) -> Vec<u8> {
    let mut out = vec![0; usize::from(units) * 8];
    out[1] = units - 1;
    out
}

pub(crate) fn fragment(offset: u16, more: bool) -> Vec<u8> {
    let [a, b] = (offset << 3 | u16::from(more)).to_be_bytes();
    vec![0, 0, a, b, 0xde, 0xad, 0xbe, 0xef]
}

pub(crate) fn udp(sport: u16, dport: u16, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u16 + 8;
    let mut out: Vec<u8> = [sport, dport, len, 0xabcd]
        .iter()
        .flat_map(|v| v.to_be_bytes())
        .collect();
    out.extend(payload);
    out
}

pub(crate) fn tcp(sport: u16, dport: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    out.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0xab, 0xcd, 0, 0]);
    out.extend(payload);
    out
}

/// Cuts of `bytes` into up to five slices.
pub(crate) fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
    at.sort_unstable();
    let mut out = Vec::new();
    let mut from = 0;
    for to in at {
        out.push(&bytes[from..to]);
        from = to;
    }
    out.push(&bytes[from..]);
    out
}

pub(crate) fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..4)
}

pub(crate) fn payload(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}
