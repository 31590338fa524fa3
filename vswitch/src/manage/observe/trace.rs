//! A packet's way as the API tells it: names instead of numbers, decisions as sentences,
//! nanoseconds instead of ticks.

use serde::{Deserialize, Serialize};

use super::names::Names;
use super::sentence::{sentence, why};
use crate::datapath::observe::{Headers, Record};
use crate::datapath::verdict::Class;
use crate::dpdk::time::TscClock;

/// What `POST /v1/trace` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TraceRequest {
    /// Which packets.
    pub filter: super::Filter,
    /// How many at most, 1 to 1,000,000.
    pub count: u32,
    /// Seconds after which it ends all the same; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
}

impl Default for TraceRequest {
    fn default() -> Self {
        TraceRequest {
            filter: super::Filter::default(),
            count: 10,
            timeout: None,
        }
    }
}

/// A line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceLine {
    /// One packet.
    Packet(Box<Trace>),
    /// The last line.
    End(TraceEnd),
}

/// How a trace ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEnd {
    /// Packets told of.
    pub packets: u32,
    /// Packets that matched and were lost, because they came faster than they were read.
    pub lost: u64,
    /// `count`, `timeout` or `stopping`.
    pub reason: String,
}

/// One packet's way through the switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Unique in the daemon's life: worker and number.
    pub id: String,
    /// The packet that it is a copy of or an answer to.
    pub copy_of: Option<String>,
    /// Where it came from.
    pub from: String,
    /// Where it left, or was about to.
    pub to: Option<String>,
    /// Its virtual network, if that became known.
    pub vn: Option<String>,
    /// The edge at the other end of its tunnel.
    pub peer: Option<String>,
    /// The tenants' frame.
    pub frame: Option<FrameView>,
    /// Its outer headers, if it came from the underlay or the host kernel.
    pub outer: Option<FrameView>,
    /// What happened to it, in order.
    pub steps: Vec<TraceStep>,
    /// Steps that were not recorded, because there were too many.
    pub more_steps: u16,
    /// How it ended.
    pub verdict: String,
    /// `sent`, `dropped`, `consumed` or `handed-out`.
    pub outcome: String,
    /// What that means.
    pub help: String,
    /// Of a drop: the addresses that were the reason, where these are.
    pub why: Option<String>,
    /// Nanoseconds from the last step to the end.
    pub end_ns: u64,
    /// Nanoseconds from when it was taken up to the end.
    pub total_ns: u64,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStep {
    /// The stage, as in the design's pipeline.
    pub stage: String,
    /// The worker that did it.
    pub worker: u16,
    /// Nanoseconds since the step before, the work on other packets of its burst included.
    pub ns: u64,
    /// What was decided, and why.
    pub decision: String,
}

/// Headers of a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameView {
    /// Source MAC.
    pub src_mac: String,
    /// Destination MAC.
    pub dst_mac: String,
    /// 802.1Q VLAN identifier.
    pub vlan: Option<u16>,
    /// EtherType.
    pub ethertype: u16,
    /// Source address of IP, sender of ARP.
    pub src_ip: Option<String>,
    /// Destination address of IP, target of ARP.
    pub dst_ip: Option<String>,
    /// Protocol of the IP payload.
    pub protocol: Option<u8>,
    /// TCP or UDP source port.
    pub src_port: Option<u16>,
    /// TCP or UDP destination port.
    pub dst_port: Option<u16>,
    /// Bytes, FCS not included.
    pub len: u32,
}

impl From<&Headers> for FrameView {
    fn from(h: &Headers) -> Self {
        FrameView {
            src_mac: h.src_mac.to_string(),
            dst_mac: h.dst_mac.to_string(),
            vlan: h.vlan,
            ethertype: h.ethertype,
            src_ip: h.ips.map(|(src, _)| src.to_string()),
            dst_ip: h.ips.map(|(_, dst)| dst.to_string()),
            protocol: h.protocol,
            src_port: h.ports.map(|(src, _)| src),
            dst_port: h.ports.map(|(_, dst)| dst),
            len: h.len,
        }
    }
}

impl Trace {
    /// Of a record.
    pub fn new(record: &Record, names: &Names, clock: TscClock) -> Self {
        let mut before = record.began;
        let steps = record.steps.iter().map(|mark| {
            // A copy's record begins before the copy was made; clocks of two cores may
            // differ by some ticks.
            let ns = clock.to_ns(mark.tsc.saturating_sub(before));
            before = mark.tsc;
            TraceStep {
                stage: mark.step.stage().name().to_owned(),
                worker: mark.worker,
                ns,
                decision: sentence(mark, record, names),
            }
        });
        let steps = steps.collect();
        let vn = record.vn.map(|vn| names.vn(vn).to_owned());
        Trace {
            id: id(record.id),
            copy_of: record.copy_of.map(id),
            from: names.place(record.from),
            to: record.to.map(|place| names.place(place)),
            vn,
            peer: record.tunnel.map(|tunnel| names.peer(tunnel).to_owned()),
            frame: record.frame.as_ref().map(FrameView::from),
            outer: record.outer.as_ref().map(FrameView::from),
            steps,
            more_steps: record.more_steps,
            verdict: record.verdict.name().to_owned(),
            outcome: match record.verdict.class() {
                Class::Sent => "sent",
                Class::Consumed => "consumed",
                Class::HandedOut => "handed-out",
                Class::Dropped => "dropped",
            }
            .to_owned(),
            help: record.verdict.help().to_owned(),
            why: why(record, names),
            end_ns: clock.to_ns(record.ended.saturating_sub(before)),
            total_ns: clock.to_ns(record.ended.saturating_sub(record.began)),
        }
    }
}

fn id(id: u64) -> String {
    format!("{}.{}", id >> 48, id & 0xffff_ffff_ffff)
}
