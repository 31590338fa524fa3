//! The tenants: one dpdk-testpmd with a virtio-user port on each host.

use std::path::Path;

use anyhow::Context;

use super::edges::{tenant_mac, tenant_socket};
use crate::testpmd::Testpmd;

/// Packets of a tenant, as it counts them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counted {
    /// Received.
    pub rx: u64,
    /// Sent.
    pub tx: u64,
}

/// Both of them. Dropping it kills testpmd.
pub struct Tenants(Testpmd);

impl Tenants {
    /// Starts them on `core`. Once told to start, each sends some bursts to the other and
    /// from then on sends back what it receives, with the addresses exchanged.
    pub fn start(dir: &Path, core: usize) -> anyhow::Result<Tenants> {
        let device = |host: u8| {
            let (socket, mac) = (tenant_socket(dir, host), tenant_mac(host));
            format!(
                "--vdev=net_virtio_user{host},path={},server=1,queue_size=1024,mac={mac}",
                socket.display()
            )
        };
        let peer = |host: u8| format!("--eth-peer={},{}", host - 1, tenant_mac(3 - host));
        let mut own = [1, 2].map(peer).to_vec();
        own.extend(["--forward-mode=macswap", "--port-topology=loop"].map(str::to_owned));
        let lcores = format!("0@{core},1@{core}");
        Testpmd::start("tenants", &lcores, false, &[1, 2].map(device), &own).map(Tenants)
    }

    /// Waits for its prompt, which it has once the switches have connected to its sockets.
    pub fn ready(&mut self) -> anyhow::Result<()> {
        self.0.ready()
    }

    /// Runs one command.
    pub fn command(&mut self, command: &str) -> anyhow::Result<String> {
        self.0.command(command)
    }

    /// What a host's tenant has counted.
    pub fn counted(&mut self, host: u8) -> anyhow::Result<Counted> {
        let text = self.command(&format!("show port stats {}", host - 1))?;
        let figure = |name: &str| -> anyhow::Result<u64> {
            let (_, rest) = text
                .split_once(name)
                .with_context(|| format!("no {name} in:\n{text}"))?;
            let digits = rest.split_whitespace().next().context("no figure")?;
            Ok(digits.parse()?)
        };
        Ok(Counted {
            rx: figure("RX-packets:")?,
            tx: figure("TX-packets:")?,
        })
    }

    /// Stops the traffic and returns what its queues did not take, for each tenant.
    pub fn stop_traffic(&mut self) -> anyhow::Result<[u64; 2]> {
        let text = self.command("stop")?;
        let mut refused = [0; 2];
        let mut parts = text.split("TX-dropped:").skip(1);
        for of in &mut refused {
            let digits = parts.next().and_then(|rest| rest.split_whitespace().next());
            *of = digits
                .context("testpmd did not say what it dropped")?
                .parse()?;
        }
        Ok(refused)
    }

    /// Ends it in order.
    pub fn quit(self) -> anyhow::Result<()> {
        self.0.quit()
    }
}
