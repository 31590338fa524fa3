//! `vswitchctl trace`: its arguments, its question, its answer as text.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use vswitch_net::MacAddr;

use super::frame::{Description, from_capture};
use super::{Filter, From, Inject, Trace, TraceLine, TraceRequest, text};
use crate::manage::api;

const SKEW: &str = "vswitchd's answer is not understood: is it of the version of this vswitchctl \
                    (see `vswitchctl --version`)?";

/// Where packets go and why: the next packets that match, each with every stage it passed,
/// what each decided and from which rule, nanoseconds, and its verdict.
///
/// With --inject, what would happen to a packet, without any effect on the switch.
#[derive(Debug, Clone, Args)]
pub struct TraceArgs {
    /// So many packets, then end.
    #[arg(short = 'n', long, default_value_t = 10, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// End after so many seconds, whatever has come.
    #[arg(long, value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: Option<u32>,
    /// Packets from or to this port; with --inject, the port at which the packet arrives.
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    /// Packets of this virtual network.
    #[arg(long, value_name = "NAME", conflicts_with = "inject")]
    vn: Option<String>,
    /// Packets that came from: tenant, underlay or kernel.
    #[arg(long, value_name = "WHERE", value_parser = came, conflicts_with = "inject")]
    from: Option<From>,
    /// Packets with this MAC as source or destination.
    #[arg(long, conflicts_with = "inject")]
    mac: Option<MacAddr>,
    /// Packets with this IP address as source or destination (ARP: sender or target).
    #[arg(long, conflicts_with = "inject")]
    ip: Option<IpAddr>,
    /// tcp, udp, icmp, icmpv6, esp, arp or the number of an IP protocol.
    #[arg(long)]
    proto: Option<String>,
    /// Packets with this TCP or UDP port as source or destination.
    #[arg(long, value_name = "PORT", conflicts_with = "inject")]
    l4_port: Option<u16>,
    /// Packets of this EtherType, such as 0x86dd.
    #[arg(long, value_name = "TYPE", value_parser = ethertype, conflicts_with = "inject")]
    ethertype: Option<u16>,
    /// Packets dropped for this reason (see `vswitchctl show drops --all`), or for any.
    #[arg(long, value_name = "REASON", conflicts_with = "inject")]
    drop: Option<String>,

    /// A dry run: tell what would happen to the packet given by --frame, --pcap or by its
    /// addresses. No counter, table, sequence number or bucket changes, nothing is sent.
    #[arg(long, requires = "port")]
    inject: bool,
    /// The packet as hexadecimal digits, from the Ethernet header, without FCS.
    #[arg(long, value_name = "HEX", requires = "inject", conflicts_with_all = ["pcap", "src_mac"])]
    frame: Option<String>,
    /// The packet out of a pcap or pcapng file.
    #[arg(
        long,
        value_name = "FILE",
        requires = "inject",
        conflicts_with = "src_mac"
    )]
    pcap: Option<PathBuf>,
    /// Which packet of the file.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "pcap")]
    index: usize,
    /// Source MAC of a described packet.
    #[arg(long, value_name = "MAC", requires_all = ["inject", "dst_mac"])]
    src_mac: Option<MacAddr>,
    /// Destination MAC.
    #[arg(long, value_name = "MAC", requires = "src_mac")]
    dst_mac: Option<MacAddr>,
    /// Source IP address (ARP: sender).
    #[arg(long, value_name = "IP", requires_all = ["src_mac", "dst_ip"])]
    src_ip: Option<IpAddr>,
    /// Destination IP address (ARP: target).
    #[arg(long, value_name = "IP", requires = "src_ip")]
    dst_ip: Option<IpAddr>,
    /// Source port of TCP or UDP.
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 49152,
        requires = "src_ip"
    )]
    src_port: u16,
    /// Destination port of TCP or UDP.
    #[arg(long, value_name = "PORT", default_value_t = 9, requires = "src_ip")]
    dst_port: u16,
    /// VLAN tag in the packet. (A VLAN's port adds its own.)
    #[arg(long, value_name = "VID", requires = "src_mac")]
    vlan: Option<u16>,
    /// Bytes of a described packet, FCS not included.
    #[arg(long, value_name = "BYTES", default_value_t = 60, requires = "src_mac",
          value_parser = clap::value_parser!(u32).range(14..=65_535))]
    size: u32,
}

pub(crate) fn came(text: &str) -> Result<From, String> {
    match text {
        "tenant" => Ok(From::Tenant),
        "underlay" => Ok(From::Underlay),
        "kernel" => Ok(From::Kernel),
        _ => Err("tenant, underlay or kernel".to_owned()),
    }
}

pub(crate) fn ethertype(text: &str) -> Result<u16, String> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.map_err(|_| "a number up to 65535, or 0x and four hexadecimal digits".to_owned())
}

impl TraceArgs {
    /// Asks the switch at `socket` and writes what it says, each packet as it comes.
    ///
    /// # Errors
    /// When the switch cannot be asked, says no, or `out` cannot be written to.
    pub async fn run(&self, socket: &Path, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
        if self.inject {
            return self.inject(socket, json, out).await;
        }
        let request = TraceRequest {
            filter: Filter {
                underlay: false,
                port: self.port.clone(),
                from: self.from,
                vn: self.vn.clone(),
                mac: self.mac,
                ip: self.ip,
                proto: self.proto.clone(),
                l4_port: self.l4_port,
                ethertype: self.ethertype,
                drop: self.drop.clone(),
            },
            count: self.count,
            timeout: self.timeout,
        };
        let mut lines = api::post_lines(socket, api::TRACE, &request).await?;
        while let Some(line) = lines.next().await? {
            if json {
                out.write_all(&line)?;
                out.write_all(b"\n")?;
            } else {
                let text = match serde_json::from_slice(&line).context(SKEW)? {
                    TraceLine::Packet(packet) => text::packet(&packet),
                    TraceLine::End(end) => text::end(&end),
                };
                out.write_all(text.as_bytes())?;
            }
            out.flush()?;
        }
        Ok(())
    }

    async fn inject(&self, socket: &Path, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
        let inject = Inject {
            port: self.port.clone().unwrap_or_default(),
            frame: self.packet()?,
        };
        let mut lines = api::post_lines(socket, api::INJECT, &inject).await?;
        while let Some(line) = lines.next().await? {
            if json {
                out.write_all(&line)?;
                out.write_all(b"\n")?;
            } else {
                let packet: Trace = serde_json::from_slice(&line).context(SKEW)?;
                out.write_all(text::packet(&packet).as_bytes())?;
            }
        }
        if !json {
            out.write_all(b"This was a dry run: nothing was sent, nothing has changed.\n")?;
        }
        out.flush()?;
        Ok(())
    }

    fn packet(&self) -> anyhow::Result<Vec<u8>> {
        if let Some(digits) = &self.frame {
            let digits: String = digits
                .chars()
                .filter(|c| !c.is_whitespace() && *c != ':')
                .collect();
            return hex::decode(digits).context("--frame");
        }
        if let Some(file) = &self.pcap {
            let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
            return from_capture(&bytes, self.index).with_context(|| file.display().to_string());
        }
        let (Some(src_mac), Some(dst_mac)) = (self.src_mac, self.dst_mac) else {
            bail!("--inject needs a packet: --frame, --pcap, or --src-mac and --dst-mac");
        };
        let description = Description {
            src_mac,
            dst_mac,
            ips: self.src_ip.zip(self.dst_ip),
            proto: self.proto.clone(),
            src_port: self.src_port,
            dst_port: self.dst_port,
            vlan: self.vlan,
            size: self.size as usize,
        };
        Ok(description.build()?)
    }
}
