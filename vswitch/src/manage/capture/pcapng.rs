//! pcapng (draft-ietf-opsawg-pcapng), written with the `pcap-file` crate: an interface
//! description for each port, an enhanced packet block with a comment for each packet,
//! statistics at the end.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapError};

use super::clock::WallClock;
use super::view::{Direction, Packet, interface};
use crate::datapath::observe::Place;
use crate::manage::observe::Names;

/// `if_tsresol` of nanoseconds: 10⁻⁹.
const NANOSECONDS: u8 = 9;
/// `epb_flags` of a packet received, and of one sent.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// The file, as far as it has not been taken away.
pub(super) struct Writer {
    out: PcapNgWriter<Vec<u8>>,
    interfaces: BTreeMap<(u8, u16), u32>,
    /// Packets by interface.
    counts: Vec<u64>,
    snaplen: u32,
    /// Nanoseconds since 1970.
    began: u64,
    /// Bytes taken away.
    taken: u64,
}

impl Writer {
    pub(super) fn new(snaplen: u32, began: u64) -> io::Result<Self> {
        let application = concat!("vswitchd ", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            // A time is its high and its low half, in this order whatever the byte order
            // (4.3), which the crate has right in this one only.
            endianness: Endianness::Big,
            options: vec![SectionHeaderOption::UserApplication(application.into())],
            ..SectionHeaderBlock::default()
        };
        Ok(Writer {
            out: PcapNgWriter::with_section_header(Vec::new(), section).map_err(error)?,
            interfaces: BTreeMap::new(),
            counts: Vec::new(),
            snaplen,
            began,
            taken: 0,
        })
    }

    /// The number of the interface, which is described first if it is new.
    pub(super) fn interface(&mut self, place: Place, names: &Names) -> io::Result<u32> {
        if let Some(id) = self.interfaces.get(&key(place)) {
            return Ok(*id);
        }
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: self.snaplen,
            options: vec![
                InterfaceDescriptionOption::IfName(interface(place, names).into()),
                InterfaceDescriptionOption::IfDescription(names.place(place).into()),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        self.out.write_pcapng_block(block).map_err(error)?;
        let id = self.counts.len() as u32;
        self.interfaces.insert(key(place), id);
        self.counts.push(0);
        Ok(id)
    }

    /// Adds a packet. False: with it the file would be longer than `size`.
    pub(super) fn packet(
        &mut self,
        packet: &Packet<'_>,
        clock: &WallClock,
        names: &Names,
        size: Option<u64>,
    ) -> io::Result<bool> {
        let id = self.interface(packet.place, names)?;
        let bytes = &packet.bytes.data;
        // Another observation may have asked for more of each packet.
        let bytes = bytes.get(..self.snaplen as usize).unwrap_or(bytes);
        let flags = match packet.direction {
            Direction::In => INBOUND,
            Direction::Out => OUTBOUND,
        };
        let block = EnhancedPacketBlock {
            interface_id: id,
            timestamp: Duration::from_nanos(clock.at(packet.tsc)),
            original_len: packet.bytes.len as u32,
            data: Cow::Borrowed(bytes),
            options: vec![
                EnhancedPacketOption::Comment(packet.comment(names).into()),
                EnhancedPacketOption::Flags(flags),
            ],
        };
        let described = self.out.get_ref().len();
        self.out.write_pcapng_block(block).map_err(error)?;
        let length = self.taken + self.out.get_ref().len() as u64;
        if size.is_some_and(|size| length > size) {
            // A new interface stays described: its number is given out.
            self.out.get_mut().truncate(described);
            return Ok(false);
        }
        if let Some(count) = self.counts.get_mut(id as usize) {
            *count += 1;
        }
        Ok(true)
    }

    /// The end: what each interface had. Which one a lost packet would have been on is not
    /// known, so with several interfaces all of them stand at the first.
    pub(super) fn statistics(&mut self, now: u64, lost: u64) -> io::Result<()> {
        let several = self.counts.len() > 1;
        for (id, packets) in self.counts.clone().into_iter().enumerate() {
            let lost = if id == 0 { lost } else { 0 };
            let mut options = vec![
                InterfaceStatisticsOption::IsbStartTime(self.began),
                InterfaceStatisticsOption::IsbEndTime(now),
                InterfaceStatisticsOption::IsbIfRecv(packets + lost),
                InterfaceStatisticsOption::IsbIfDrop(lost),
                InterfaceStatisticsOption::IsbFilterAccept(packets + lost),
                InterfaceStatisticsOption::IsbUsrDeliv(packets),
            ];
            if several && lost > 0 {
                let comment = "the packets lost are those of all interfaces together";
                options.insert(0, InterfaceStatisticsOption::Comment(comment.into()));
            }
            let block = InterfaceStatisticsBlock {
                interface_id: id as u32,
                timestamp: now,
                options,
            };
            self.out.write_pcapng_block(block).map_err(error)?;
        }
        Ok(())
    }

    /// Packets so far.
    pub(super) fn packets(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Whether there is nothing to take away.
    pub(super) fn is_empty(&self) -> bool {
        self.out.get_ref().is_empty()
    }

    /// Takes away what there is.
    pub(super) fn piece(&mut self) -> Vec<u8> {
        let piece = std::mem::take(self.out.get_mut());
        self.taken += piece.len() as u64;
        piece
    }
}

/// An order of places.
fn key(place: Place) -> (u8, u16) {
    match place {
        Place::Port(port) => (0, port.0),
        Place::Underlay(port) => (1, port),
        Place::Tap(port) => (2, port),
        Place::Trunk(device) => (3, device),
        Place::Worker(worker) => (4, worker),
        Place::Switch => (5, 0),
    }
}

fn error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}
