//! What edges under an authority are asked, and what tenants notice.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::daemon::binary;
use crate::lab::{DIR, wait_for};
use crate::overlay::Tenant;

/// What `vswitchctl show` prints, if the edge answers.
pub fn shown(host: &str, what: &str) -> Result<Value, String> {
    let output = Command::new(binary("vswitchctl"))
        .args(["--socket", &format!("{DIR}/{host}.api")])
        .args(["--json", "show", what])
        .output()
        .expect("vswitchctl");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// The same of an edge that must answer.
#[track_caller]
pub fn show(host: &str, what: &str) -> Value {
    shown(host, what).unwrap_or_else(|error| panic!("{host} {what}: {error}"))
}

/// How an edge's addresses in a network stand, in order: `vm1: admitted`.
#[track_caller]
pub fn standing(host: &str, vn: &str) -> Vec<String> {
    let ima = show(host, "ima");
    let found = network(&ima, vn);
    let addresses = found.and_then(|vn| vn["addresses"].as_array());
    let mut standing: Vec<String> = addresses
        .into_iter()
        .flatten()
        .filter_map(|a| Some(format!("{}: {}", a[1].as_str()?, a[2].as_str()?)))
        .collect();
    standing.sort();
    standing
}

/// A network of `show ima`.
pub fn network<'a>(ima: &'a Value, vn: &str) -> Option<&'a Value> {
    ima["vns"].as_array()?.iter().find(|v| v["vn"] == vn)
}

/// Waits until an edge's addresses in a network stand so: `vm1: admitted`.
#[track_caller]
pub fn stands(host: &str, vn: &str, wanted: &[&str]) {
    wait_for(&format!("{host} has {wanted:?} in {vn}"), 30, || {
        (standing(host, vn) == wanted).then_some(())
    });
}

/// Waits until all of these are admitted, of which no host has two in one network.
#[track_caller]
pub fn all_admitted(tenants: &[Tenant]) {
    for Tenant { host, vn, n, .. } in tenants {
        stands(host, vn, &[&format!("vm{n}: admitted")]);
    }
}

/// Waits until every key that a host seals with, for one peer or all, is another.
#[track_caller]
pub fn rekeyed(host: &str, peer: Option<&str>) {
    rekeyed_since(host, peer, &sealing(host, peer));
}

/// The same of the keys of an earlier moment, of which there were some.
#[track_caller]
pub fn rekeyed_since(host: &str, peer: Option<&str>, before: &[u64]) {
    assert!(!before.is_empty());
    wait_for(&format!("{host} has other keys"), 15, || {
        let now = sealing(host, peer);
        (!now.is_empty() && now.iter().all(|spi| !before.contains(spi))).then_some(())
    });
}

/// Where a host has the address of machine `n`.
#[track_caller]
pub fn place(host: &str, vn: &str, n: u8) -> Option<String> {
    let mac = format!("52:54:00:00:00:0{n}");
    let fdb = show(host, "fdb");
    let mut entries = fdb.as_array()?.iter();
    let entry = entries.find(|e| e["mac"] == *mac && e["vn"] == vn)?;
    Some(entry["destination"].as_str()?.to_owned())
}

/// SPIs that a host seals with, for one peer or all.
#[track_caller]
pub fn sealing(host: &str, peer: Option<&str>) -> Vec<u64> {
    let sas = show(host, "sas");
    let outbound = sas.as_array().expect("SAs").iter();
    let mut spis: Vec<u64> = outbound
        .filter(|sa| sa["direction"] == "outbound")
        .filter(|sa| peer.is_none_or(|peer| sa["peer"] == peer))
        .filter_map(|sa| sa["spi"].as_u64())
        .collect();
    spis.sort_unstable();
    spis
}

/// Whether a host has any SA with a peer, in either direction.
#[track_caller]
pub fn secured(host: &str, peer: &str) -> bool {
    let sas = show(host, "sas");
    let mut sas = sas.as_array().expect("SAs").iter();
    sas.any(|sa| sa["peer"] == peer)
}

/// Packets that a host dropped for this reason.
#[track_caller]
pub fn drops(host: &str, reason: &str) -> u64 {
    let drops = show(host, "drops");
    let mut drops = drops.as_array().expect("drops").iter();
    let found = drops.find(|drop| drop["reason"] == reason);
    found.and_then(|drop| drop["packets"].as_u64()).unwrap_or(0)
}

/// The security log of a host.
pub fn security(host: &str) -> String {
    fs::read_to_string(format!("{DIR}/{host}.security")).unwrap_or_default()
}

/// Pings machine `to` and returns how many were sent and how many answered.
#[track_caller]
pub fn ping(from: &str, to: u8, count: u32, interval: &str) -> (u32, u32) {
    let output = Command::new("ip")
        .args(["netns", "exec", from, "ping", "-n", "-q", "-W", "2"])
        .args(["-c", &count.to_string(), "-i", interval])
        .arg(format!("10.0.0.{to}"))
        .output()
        .expect("ping");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|l| l.contains("packets transmitted"));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    let mut numbers = line.split(' ').filter_map(|word| word.parse().ok());
    let (Some(sent), Some(received)) = (numbers.next(), numbers.next()) else {
        panic!("{line}");
    };
    (sent, received)
}
