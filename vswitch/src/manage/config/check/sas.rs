//! `security-associations`: manual keys, and whether every protected way has its own.

use std::ops::RangeInclusive;

use vswitch_sa::{MAX_WINDOW, MIN_WINDOW};

use super::super::defaults;
use super::super::findings::Once;
use super::super::keyfile;
use super::super::model::{ManualKey, Peer, SecurityAssociation, Vn};
use super::super::problem::KeyPath;
use super::super::raw;
use super::super::types::{Algorithm, Direction, Limits, PeerId, Protection, Spi, VnId};
use super::Context;

/// Lower ones are reserved (RFC 4303, section 2.1).
const FIRST_SPI: u64 = 256;
/// Packets.
const WINDOW: RangeInclusive<u64> = MIN_WINDOW as u64..=MAX_WINDOW as u64;

/// What may be there once only.
struct Taken {
    inbound_spis: Once<u32>,
    outbound_spis: Once<(usize, u32)>,
    outbound: Once<(usize, usize, u16)>,
    keys: Vec<(KeyPath, ManualKey)>,
}

pub(super) fn check(
    cx: &mut Context<'_>,
    raw: &[raw::SecurityAssociation],
    vns: &[Vn],
    peers: &[Peer],
) -> Vec<SecurityAssociation> {
    let list = KeyPath::root().key("security-associations");
    let mut taken = Taken {
        inbound_spis: Once::new(),
        outbound_spis: Once::new(),
        outbound: Once::new(),
        keys: Vec::new(),
    };
    let one = |(i, sa)| check_one(cx, &list.index(i), sa, vns, peers, &mut taken);
    raw.iter().enumerate().filter_map(one).collect()
}

fn check_one(
    cx: &mut Context<'_>,
    path: &KeyPath,
    raw: &raw::SecurityAssociation,
    vns: &[Vn],
    peers: &[Peer],
    taken: &mut Taken,
) -> Option<SecurityAssociation> {
    let vn = cx.vns.resolve(cx.f, &path.key("vn"), &raw.vn);
    let peer = cx.peers.resolve(cx.f, &path.key("peer"), &raw.peer);
    let worker = cx.worker(
        &path.key("worker"),
        raw.worker.unwrap_or(defaults::SA_WORKER),
    );
    let max = u64::from(u32::MAX);
    let spi: u32 = cx.f.within(&path.key("spi"), raw.spi, FIRST_SPI..=max, "");
    if u64::from(spi) == raw.spi {
        let what = format!("the {} SPI {spi:#x}", label(raw.direction));
        match (raw.direction, peer) {
            (Direction::Inbound, _) => {
                taken.inbound_spis.claim(cx.f, &path.key("spi"), spi, what);
            }
            (Direction::Outbound, Some(peer)) => {
                taken
                    .outbound_spis
                    .claim(cx.f, &path.key("spi"), (peer, spi), what);
            }
            (Direction::Outbound, None) => {}
        }
    }
    if let (Direction::Outbound, Some(vn), Some(peer)) = (raw.direction, vn, peer) {
        let what = format!(
            "the outbound association of worker {worker} to `{}` in VN `{}`",
            raw.peer, raw.vn
        );
        taken.outbound.claim(cx.f, path, (vn, peer, worker), what);
    }
    let sure = vn.is_none_or(|vn| !cx.unsure_edges.contains(&vn));
    let member = peer.filter(|_| sure);
    membership(cx, path, raw, vn.and_then(|vn| vns.get(vn)), member);
    let esn = raw.esn.unwrap_or(defaults::ESN);
    let foreign = peer
        .and_then(|peer| peers.get(peer))
        .is_some_and(|p| p.foreign);
    if !esn && peer.is_some() && !foreign {
        cx.f.error(
            &path.key("esn"),
            format!(
                "32-bit sequence numbers are for foreign peers, and `{}` is not one",
                raw.peer
            ),
        );
    }
    let limits = limits(cx, path, raw);
    let replay_window = replay_window(cx, path, raw);
    let key = key(cx, path, raw, taken)?;
    Some(SecurityAssociation {
        vn: VnId(u16::try_from(vn?).unwrap_or(u16::MAX)),
        peer: PeerId(u32::try_from(peer?).unwrap_or(u32::MAX)),
        direction: raw.direction,
        worker,
        spi: Spi::new(spi).ok()?,
        algorithm: raw.algorithm.into(),
        key,
        esn,
        limits,
        replay_window,
    })
}

const fn label(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
}

/// The association must be of use to its network.
fn membership(
    cx: &mut Context<'_>,
    path: &KeyPath,
    raw: &raw::SecurityAssociation,
    vn: Option<&Vn>,
    peer: Option<usize>,
) {
    let Some(vn) = vn else { return };
    if peer.is_some_and(|peer| !vn.edges.iter().any(|edge| edge.index() == peer)) {
        let message = format!("`{}` is not an edge of VN `{}`", raw.peer, vn.name);
        cx.f.error(&path.key("peer"), message);
    }
    let (wanted, fitting) = match vn.protection {
        Protection::None => {
            cx.f.error(
                &path.key("vn"),
                format!(
                    "VN `{}` has `protection: none`: it has no use for a key",
                    vn.name
                ),
            );
            return;
        }
        Protection::Confidential => ("confidential", "aes-128-gcm or aes-256-gcm"),
        Protection::Integrity => ("integrity", "aes-128-gmac or aes-256-gmac"),
    };
    let algorithm = Algorithm::from(raw.algorithm);
    if algorithm.is_confidential() != (vn.protection == Protection::Confidential) {
        cx.f.error(
            &path.key("algorithm"),
            format!(
                "{} is not for VN `{}` with `protection: {wanted}`: use {fitting}",
                algorithm.name(),
                vn.name
            ),
        );
    }
}

fn limits(cx: &mut Context<'_>, path: &KeyPath, raw: &raw::SecurityAssociation) -> Limits {
    let hard = raw.hard_limit.unwrap_or(defaults::HARD_LIMIT);
    let hard: u64 =
        cx.f.within(&path.key("hard-limit"), hard, 2..=Limits::MAX, "AES blocks");
    let soft = match raw.soft_limit {
        Some(soft) => soft,
        // Half of a hard limit that was lowered.
        None => defaults::SOFT_LIMIT.min(hard / 2),
    };
    if soft == 0 || soft > hard {
        cx.f.error(
            &path.key("soft-limit"),
            format!("{soft} is out of range: 1 to the hard limit, {hard}"),
        );
    }
    Limits { soft, hard }
}

fn replay_window(cx: &mut Context<'_>, path: &KeyPath, raw: &raw::SecurityAssociation) -> usize {
    let path = path.key("replay-window");
    let window = raw.replay_window.unwrap_or(defaults::REPLAY_WINDOW);
    if raw.replay_window.is_some() && raw.direction == Direction::Outbound {
        cx.f.error(&path, "is for inbound associations");
    }
    if WINDOW.contains(&window) && !window.is_multiple_of(64) {
        let down = window - window % 64;
        cx.f.error(
            &path,
            format!(
                "{window} is not a multiple of 64: {down} or {} are",
                down + 64
            ),
        );
    }
    cx.f.within(&path, window, WINDOW, "packets")
}

fn key(
    cx: &mut Context<'_>,
    path: &KeyPath,
    raw: &raw::SecurityAssociation,
    taken: &mut Taken,
) -> Option<ManualKey> {
    let path = path.key("key-file");
    match keyfile::read(&cx.base.join(&raw.key_file), raw.algorithm.into()) {
        Ok(key) => {
            if let Some((first, _)) = taken
                .keys
                .iter()
                .find(|(_, other)| other.fingerprint() == key.fingerprint())
            {
                cx.f.error(
                    &path,
                    format!(
                        "holds the same key as {first}: one key for two associations uses \
                             nonces twice, which gives the key away"
                    ),
                );
            }
            taken.keys.push((path, key.clone()));
            Some(key)
        }
        Err(error) => {
            cx.f.error(&path, error.to_string());
            None
        }
    }
}

/// Warns of protected ways without a key: nothing gets through there.
pub(super) fn coverage(cx: &mut Context<'_>, sas: &[SecurityAssociation], vns: &[Vn]) {
    let list = KeyPath::root().key("vns");
    for (i, vn) in vns.iter().enumerate() {
        if vn.protection == Protection::None {
            continue;
        }
        for (j, edge) in vn.edges.iter().enumerate() {
            let has = |direction| {
                sas.iter()
                    .any(|sa| sa.vn.index() == i && sa.peer == *edge && sa.direction == direction)
            };
            let peer = cx.peers.name(edge.index());
            let path = list.index(i).key("edges").index(j);
            for (direction, consequence) in [
                (
                    Direction::Outbound,
                    "packets to it are dropped with reason no-sa",
                ),
                (
                    Direction::Inbound,
                    "packets from it are dropped, their SPI being unknown",
                ),
            ] {
                if !has(direction) {
                    let label = label(direction);
                    cx.f.warn(
                        &path,
                        format!(
                            "VN `{}` has no {label} association with `{peer}`: {consequence}",
                            vn.name
                        ),
                    );
                }
            }
        }
    }
}
