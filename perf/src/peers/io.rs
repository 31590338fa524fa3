//! What the ports alone cost: dpdk-testpmd, which takes packets from the same capture by the
//! same driver and gives them to the same kind of nowhere, on the same core. And the tenant
//! that puts them into a vhost queue.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::{Cores, Ticks};
use crate::datapath::frames::TENANT_MAC;
use crate::testpmd::Testpmd;

/// Where packets come from: captures, one for each queue, that DPDK's driver reads once into
/// buffers, of which it copies one for every packet, in turn and without end.
pub fn source(number: u8, captures: &[&Path]) -> String {
    let file = |capture: &&Path| format!("rx_pcap={},", capture.display());
    let files: String = captures.iter().map(file).collect();
    format!("net_pcap{number},{files}infinite_rx=1")
}

/// Where they go: freed when sent. Gives nothing.
pub fn sink(number: u8) -> String {
    format!("net_null{number},no-rx=1")
}

/// testpmd from a capture to nowhere. Idle unless it measures.
pub struct PortsAlone(Testpmd);

impl PortsAlone {
    /// Starts it, its forwarding thread on the measured core.
    pub fn start(
        name: &str,
        cores: Cores,
        hugepages: bool,
        capture: &Path,
    ) -> anyhow::Result<PortsAlone> {
        let Cores { main, worker } = cores;
        let eal = [source(0, &[capture]), sink(0)].map(|device| format!("--vdev={device}"));
        let own = ["--forward-mode=io", "--record-core-cycles", "--nb-cores=1"];
        let lcores = format!("0@{main},1@{worker}");
        let own = own.map(str::to_owned);
        let mut testpmd = Testpmd::start(name, &lcores, hugepages, &eal, &own)?;
        testpmd.ready()?;
        Ok(PortsAlone(testpmd))
    }

    /// Ticks and packets of a time.
    pub fn measure(&mut self, time: Duration) -> anyhow::Result<Ticks> {
        self.0.command("start")?;
        std::thread::sleep(time);
        ticks(&self.0.command("stop")?)
    }

    /// Ends it in order.
    pub fn quit(self) -> anyhow::Result<()> {
        self.0.quit()
    }
}

/// Of what testpmd says when it stops.
fn ticks(text: &str) -> anyhow::Result<Ticks> {
    let figure = |name: &str| -> anyhow::Result<u64> {
        let (_, rest) = text
            .split_once(name)
            .with_context(|| format!("testpmd did not say {name}:\n{text}"))?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse()?)
    };
    Ok(Ticks {
        ticks: figure("total cycles=")?,
        packets: figure("total io packets=")?,
    })
}

/// testpmd from a capture into a vhost queue, on the other core.
pub struct Tenant(Testpmd);

impl Tenant {
    /// Starts it; it makes the socket and waits for the switch.
    pub fn start(name: &str, cores: Cores, capture: &Path, socket: &Path) -> anyhow::Result<Self> {
        let eal = [
            format!("--vdev={}", source(0, &[capture])),
            format!(
                "--vdev=net_virtio_user0,path={},server=1,queue_size=1024,mac={TENANT_MAC}",
                socket.display()
            ),
        ];
        let own = ["--forward-mode=io", "--nb-cores=1"].map(str::to_owned);
        let main = cores.main;
        let lcores = format!("0@{main},1@{main}");
        Testpmd::start(name, &lcores, false, &eal, &own).map(Tenant)
    }

    /// Waits for the switch.
    pub fn ready(&mut self) -> anyhow::Result<()> {
        self.0.ready()
    }

    /// Lets packets flow, or not.
    pub fn send(&mut self, on: bool) -> anyhow::Result<()> {
        let said = self.0.command(if on { "start" } else { "stop" })?;
        ensure!(!said.contains("not started"), "{said}");
        Ok(())
    }

    /// Ends it in order.
    pub fn quit(self) -> anyhow::Result<()> {
        self.0.quit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn testpmd_says_cycles() {
        let text = "  CPU cycles/packet=27.00 (total cycles=27000 / total io packets=1000) at \
                    2000 MHz Clock\n";
        let found = ticks(text).expect("figures");
        assert_eq!((found.ticks, found.packets), (27_000, 1000));
        assert!(ticks("Telling cores to stop...").is_err());
    }
}
