//! What an edge must have counted: a test writes down the end of every packet, and the sums
//! are compared with every counter that changed.

use std::collections::BTreeMap;

use crate::changes::{Changes, Counts};

/// Counters that are expected to change, summed packet by packet.
#[derive(Debug, Default)]
pub struct Tally {
    verdicts: BTreeMap<&'static str, u64>,
    traffic: BTreeMap<String, Counts>,
    received: u64,
    copied: u64,
    handed_over: u64,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Self {
        Tally::default()
    }

    /// One more packet ended so.
    pub fn ends(&mut self, verdict: &'static str) {
        *self.verdicts.entry(verdict).or_default() += 1;
    }

    fn at(&mut self, name: &str) -> &mut Counts {
        self.traffic.entry(name.to_owned()).or_default()
    }

    fn add_rx(&mut self, name: &str, bytes: usize) {
        let counts = self.at(name);
        counts.rx.0 += 1;
        counts.rx.1 += bytes as u64;
    }

    fn add_tx(&mut self, name: &str, bytes: usize) {
        let counts = self.at(name);
        counts.tx.0 += 1;
        counts.tx.1 += bytes as u64;
    }

    /// An underlay packet of `len` bytes is nobody's: charged to the port alone.
    pub fn underlay_drop(&mut self, len: usize, why: &'static str) {
        self.received += 1;
        self.ends(why);
        self.add_rx("port up0", len);
        self.at("port up0").rx_dropped += 1;
    }

    /// An underlay packet is refused by the SA of `tunnel` (`VN/PEER`).
    pub fn sa_drop(&mut self, len: usize, tunnel: &str, why: &'static str) {
        self.underlay_drop(len, why);
        self.at(&format!("tunnel {tunnel}")).rx_dropped += 1;
    }

    /// A packet of `len` bytes was authentic, but the frame of `inner` bytes in it is refused.
    pub fn inner_drop(
        &mut self,
        len: usize,
        (vn, peer): (&str, &str),
        inner: usize,
        why: &'static str,
    ) {
        self.received += 1;
        self.ends(why);
        self.add_rx("port up0", len);
        let tunnel = format!("tunnel {vn}/{peer}");
        self.add_rx(&tunnel, inner);
        self.at(&tunnel).rx_dropped += 1;
        self.at(&format!("vn {vn}")).rx_dropped += 1;
    }

    /// A peer's frame was good, and is counted in its network although it leads nowhere.
    pub fn in_network(&mut self, vn: &str, inner: usize) {
        self.add_tx(&format!("vn {vn}"), inner);
    }

    /// A packet of `len` bytes brought a frame of `inner` bytes to a VLAN port.
    pub fn delivered(&mut self, len: usize, (vn, peer): (&str, &str), port: &str, inner: usize) {
        self.received += 1;
        self.ends("to-vlan");
        self.add_rx("port up0", len);
        self.add_rx(&format!("tunnel {vn}/{peer}"), inner);
        self.add_tx(&format!("vn {vn}"), inner);
        self.add_tx(&format!("port {port}"), inner);
    }

    /// A tenant's frame is refused before it is anything in its network.
    pub fn refused(&mut self, port: &str, vn: &str, len: usize, why: &'static str) {
        self.received += 1;
        self.ends(why);
        let name = format!("port {port}");
        self.add_rx(&name, len);
        self.at(&name).rx_dropped += 1;
        self.at(&format!("vn {vn}")).rx_dropped += 1;
    }

    /// A tenant's frame is admitted and then leads nowhere.
    pub fn lost(&mut self, port: &str, vn: &str, len: usize, why: &'static str) {
        self.refused(port, vn, len, why);
        self.add_rx(&format!("vn {vn}"), len);
    }

    /// A tenant's frame is admitted; where it goes is said by [`Self::to_port`] and
    /// [`Self::to_peer`], and every place after the first is a copy.
    pub fn admitted(&mut self, port: &str, vn: &str, len: usize, places: u64) {
        self.received += 1;
        self.add_rx(&format!("port {port}"), len);
        self.add_rx(&format!("vn {vn}"), len);
        self.copied += places.saturating_sub(1);
    }

    /// It goes to a port here, ending as `verdict` (`to-tenant` or `to-vlan`).
    pub fn to_port(&mut self, port: &str, len: usize, verdict: &'static str) {
        self.ends(verdict);
        self.add_tx(&format!("port {port}"), len);
    }

    /// It goes to a peer, in a packet of `outer` bytes.
    pub fn to_peer(&mut self, tunnel: &str, len: usize, outer: usize) {
        self.ends("to-underlay");
        self.add_tx(&format!("tunnel {tunnel}"), len);
        self.add_tx("port up0", outer);
    }

    /// It is for a peer and is not sent.
    pub fn not_sent(&mut self, tunnel: &str, why: &'static str) {
        self.ends(why);
        self.at(&format!("tunnel {tunnel}")).tx_dropped += 1;
    }

    /// A packet that came to one worker was opened by another.
    pub fn handed_over(&mut self) {
        self.ends("handed-out");
        self.handed_over += 1;
    }

    /// Every counter must have changed by exactly this.
    #[track_caller]
    pub fn check(&self, changes: &Changes) {
        let verdicts: Vec<(&str, u64)> = self.verdicts.iter().map(|(v, n)| (*v, *n)).collect();
        let traffic: Vec<(&str, Counts)> =
            self.traffic.iter().map(|(n, c)| (n.as_str(), *c)).collect();
        changes
            .expect_verdicts(&verdicts)
            .expect_traffic(&traffic)
            .expect_books(self.received, 0, self.copied, self.handed_over);
    }

    /// How many packets ended under a verdict.
    pub fn count(&self, verdict: &str) -> u64 {
        self.verdicts.get(verdict).copied().unwrap_or(0)
    }
}

/// Bytes of an underlay packet over IPv4 around a tenant's frame: Ethernet, IPv4, UDP, SPI and
/// sequence number, IV; UDP, tunnel header, frame, padding to four, two bytes of trailer; ICV.
pub fn sealed_len(frame: usize) -> usize {
    let text = (16 + frame + 2).next_multiple_of(4);
    14 + 20 + 8 + 8 + 8 + text + 16
}
