//! The exception port's kernel end: the tap gets the DPDK port's MAC, its MTU and addresses,
//! so that to the network the host is one station on the port.
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::device::check_name;
use super::error::HostError;
use super::netlink::{Kernel, Link};
use super::types::UnderlayPort;

/// Between two looks for a tap that is not there yet.
const POLL: Duration = Duration::from_millis(20);

/// Sets up the taps of all ports that have one, waiting up to `patience` for each to appear
/// (the net_tap driver makes it when its DPDK port is created). Idempotent: what is right is
/// left, further addresses on a tap stay. Needs a running tokio runtime.
pub async fn setup_taps(ports: &[UnderlayPort], patience: Duration) -> Result<(), HostError> {
    let kernel = Kernel::connect()?;
    for port in ports {
        if let Some(tap) = &port.tap {
            setup(&kernel, tap, port, patience).await?;
        }
    }
    Ok(())
}

async fn setup(
    kernel: &Kernel,
    tap: &str,
    port: &UnderlayPort,
    patience: Duration,
) -> Result<(), HostError> {
    check_name(tap)?;
    let failed = |what: String| move |source: io::Error| HostError::Netlink { what, source };
    let link = wait(kernel, tap, patience).await?;
    let index = link.index;

    let mut up = link.up;
    if link.mac != Some(port.mac) {
        // The driver may have brought the tap up already: down once, so that the link-local
        // address is made from the new MAC.
        kernel
            .set_link(index, Some(port.mac), None, Some(false))
            .await
            .map_err(failed(format!(
                "cannot set the MAC of {tap} to {:02x?}",
                port.mac
            )))?;
        up = false;
    }
    let mtu = u32::from(port.mtu);
    if link.mtu != Some(mtu) {
        kernel
            .set_link(index, None, Some(mtu), None)
            .await
            .map_err(failed(format!("cannot set the MTU of {tap} to {mtu}")))?;
    }
    // With detection on, the link-local address is tentative for a second after "up", and the
    // kernel cannot ask for a neighbour meanwhile. The MAC is the port's own: nothing to detect.
    let path = format!("/proc/sys/net/ipv6/conf/{tap}/accept_dad");
    if let Err(error) = std::fs::write(&path, "0")
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(tap, %error, "IPv6 duplicate address detection stays on");
    }
    if !up {
        kernel
            .set_link(index, None, None, Some(true))
            .await
            .map_err(failed(format!("cannot bring {tap} up")))?;
    }
    let present = kernel
        .addresses(index)
        .await
        .map_err(failed(format!("cannot list the addresses of {tap}")))?;
    for net in &port.addresses {
        if !present.contains(net) {
            kernel
                .add_address(index, *net)
                .await
                .map_err(failed(format!("cannot put address {net} on {tap}")))?;
        }
    }
    for neighbour in &port.static_neighbours {
        let address = neighbour.address;
        kernel
            .set_neighbour(index, address, neighbour.mac)
            .await
            .map_err(failed(format!("cannot set neighbour {address} on {tap}")))?;
    }
    info!(
        tap,
        index,
        mtu,
        addresses = port.addresses.len(),
        "exception port is set up"
    );
    Ok(())
}

async fn wait(kernel: &Kernel, tap: &str, patience: Duration) -> Result<Link, HostError> {
    let deadline = Instant::now() + patience;
    loop {
        let found = kernel
            .link(tap)
            .await
            .map_err(|source| HostError::Netlink {
                what: format!("cannot look for interface {tap}"),
                source,
            })?;
        match found {
            Some(link) => return Ok(link),
            None if Instant::now() >= deadline => {
                return Err(HostError::TapMissing {
                    tap: tap.to_owned(),
                    waited: patience,
                });
            }
            None => sleep(POLL).await,
        }
    }
}
