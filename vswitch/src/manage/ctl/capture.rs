//! `vswitchctl capture`: packets into a pcapng file, or straight into Wireshark.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use vswitch_net::MacAddr;

use super::sink::Sink;
use super::{CtlError, keys};
use crate::manage::api::{self, Capturing, KeyFormat};
use crate::manage::capture::{BUFFER, MAX_BUFFER, SNAPLEN};
use crate::manage::keys::KeySelection;
use crate::manage::observe::From;
use crate::manage::observe::ctl::{came, ethertype};

/// Write packets to a pcapng file, or to standard output for Wireshark.
///
/// Each packet's comment says its VN, how it ended and why. What is captured are the packets
/// that pass a port (--port) or the underlay (--underlay), as they pass; without either, the
/// frames of tenants, each once. All other conditions narrow that down. Ends with Ctrl-C, or at
/// a limit.
///
///   vswitchctl capture --port web1 -w - | wireshark -k -i -
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Capture {
    /// The file to make, with mode 0600; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    write: PathBuf,

    /// What arrives at and leaves by this port: a tenant's, a VLAN's or the underlay's.
    #[arg(long, value_name = "NAME", conflicts_with = "underlay")]
    port: Option<String>,

    /// What arrives at and leaves by all underlay ports.
    #[arg(long)]
    underlay: bool,

    /// Only packets of this virtual network.
    #[arg(long, value_name = "NAME")]
    vn: Option<String>,

    /// Only packets from or to this MAC address.
    #[arg(long)]
    mac: Option<MacAddr>,

    /// Only packets from or to this IP address, and ARP for it.
    #[arg(long)]
    ip: Option<IpAddr>,

    /// Only packets of this protocol: tcp, udp, icmp, icmpv6, esp, arp, or a number of IP.
    #[arg(long)]
    proto: Option<String>,

    /// Only packets from or to this port of TCP or UDP.
    #[arg(long, value_name = "PORT")]
    l4_port: Option<u16>,

    /// Only packets of this EtherType, such as 0x86dd.
    #[arg(long, value_name = "TYPE", value_parser = ethertype)]
    ethertype: Option<u16>,

    /// Only packets that came from: tenant, underlay or kernel.
    #[arg(long, value_name = "WHERE", value_parser = came)]
    from: Option<From>,

    /// Only packets that were dropped, for this reason if one is given (see `show drops`).
    #[arg(long, value_name = "REASON", num_args = 0..=1, default_missing_value = "any")]
    drop: Option<String>,

    /// Bytes to keep of each packet.
    #[arg(long, value_name = "BYTES", default_value_t = SNAPLEN,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(SNAPLEN)))]
    snaplen: u32,

    /// Packets that may wait to be written; more are lost, and counted.
    #[arg(long, value_name = "PACKETS", default_value_t = BUFFER,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_BUFFER)))]
    buffer: u32,

    /// End after so many packets.
    #[arg(short, long, value_name = "PACKETS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End after this time, such as 30s or 5m.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,

    /// End before the file is longer than this: bytes, or with k, M, G so many thousands,
    /// millions, billions. Its statistics come on top.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    size: Option<u64>,

    /// Also write the keys from which Wireshark decrypts the underlay's packets (of the VN
    /// given with --vn, else of all) to this new file, as `keys export` does.
    #[arg(long, value_name = "FILE")]
    with_keys: Option<PathBuf>,
}

/// Bytes with a decimal suffix.
fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k') => (text.strip_suffix('k'), 1_000),
        Some(b'M') => (text.strip_suffix('M'), 1_000_000),
        Some(b'G') => (text.strip_suffix('G'), 1_000_000_000),
        _ => (Some(text), 1_u64),
    };
    let number: Option<u64> = digits.and_then(|digits| digits.parse().ok());
    number
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| "a number of bytes, such as 65536, 100k or 2G".to_owned())
}

impl Capture {
    /// Does it. Needs a tokio runtime with I/O and signals.
    ///
    /// # Errors
    /// When the switch refuses, a file cannot be made, or the connection breaks.
    pub async fn run(&self, socket: &Path) -> Result<(), CtlError> {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(CtlError::Output)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(CtlError::Output)?;
        let mut sink = Sink::create(&self.write)?;
        let begun = async {
            if let Some(file) = &self.with_keys {
                let which = KeySelection {
                    vn: self.vn.clone(),
                    peer: None,
                };
                keys::write(socket, KeyFormat::Wireshark, &which, file).await?;
            }
            Ok(api::capture(socket, &self.fields()).await?)
        };
        let mut capturing = match begun.await {
            Ok(capturing) => capturing,
            Err(error) => {
                sink.discard();
                return Err(error);
            }
        };
        let mut asked_to_end = false;
        loop {
            let piece = tokio::select! {
                piece = capturing.next() => piece?,
                _ = interrupt.recv() => {
                    if asked_to_end { break; }
                    asked_to_end = true;
                    end(socket, &capturing).await;
                    continue;
                }
                _ = terminate.recv() => {
                    if asked_to_end { break; }
                    asked_to_end = true;
                    end(socket, &capturing).await;
                    continue;
                }
            };
            let Some(piece) = piece else { break };
            match sink.write(&piece) {
                // Wireshark was closed: that is an end like any other.
                Err(CtlError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(());
                }
                written => written?,
            }
        }
        if let Some(summary) = capturing.summary() {
            // If standard error is gone nobody wants to know.
            let _ = writeln!(
                io::stderr(),
                "{} packets captured, {} lost for lack of room",
                summary.packets,
                summary.lost
            );
        }
        Ok(())
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let given = [
            ("port", self.port.clone()),
            ("vn", self.vn.clone()),
            ("mac", self.mac.map(|mac| mac.to_string())),
            ("ip", self.ip.map(|ip| ip.to_string())),
            ("proto", self.proto.clone()),
            ("l4_port", self.l4_port.map(|port| port.to_string())),
            ("ethertype", self.ethertype.map(|kind| kind.to_string())),
            ("from", self.from.map(|from| from.name().to_owned())),
            ("drop", self.drop.clone()),
            ("count", self.count.map(|count| count.to_string())),
            (
                "duration_ms",
                self.duration.map(|d| d.as_millis().to_string()),
            ),
            ("size", self.size.map(|size| size.to_string())),
            ("underlay", self.underlay.then(|| "true".to_owned())),
            ("snaplen", Some(self.snaplen.to_string())),
            ("buffer", Some(self.buffer.to_string())),
        ];
        given
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}

/// Asks the switch to end the capture; what it still has comes afterwards.
async fn end(socket: &Path, capturing: &Capturing) {
    // One that has just ended by itself is what was wanted.
    let _ = api::stop_capture(socket, capturing.id()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes("65536"), Ok(65_536));
        assert_eq!(bytes("100k"), Ok(100_000));
        assert_eq!(bytes("2G"), Ok(2_000_000_000));
        for bad in ["", "k", "1K", "-1", "1.5M", "99999999999999999G", "ü"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
