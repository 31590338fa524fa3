//! A port in memory, for tests and benchmarks: what one side sends, the other receives.

use std::sync::Arc;

use dpdk_sys as sys;

use super::devices::adopt;
use super::eal::hold;
use super::error::{Errno, cstring};
use super::ethdev::{DeviceError, Port, PortError, PortId};
use super::ring::{Consumer, Producer, Ring, RingError};

/// Why there is no such port.
#[derive(Debug, thiserror::Error)]
pub enum RingPortError {
    /// No ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// No port.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// The outside of a [`ring_port`].
#[derive(Debug)]
pub struct Wire {
    /// By receive queue of the port: what goes in here, the port receives.
    pub to_port: Vec<Producer>,
    /// By transmit queue of the port: what the port sends, comes out here.
    pub from_port: Vec<Consumer>,
}

/// Makes a port (driver `net_ring`) of `queues` receive and transmit queues, each a ring for
/// `capacity` packets, and gives the rings' other ends.
pub fn ring_port(
    name: &str,
    queues: u16,
    capacity: u32,
    numa: Option<u32>,
) -> Result<(Port, Wire), RingPortError> {
    let hold = hold().map_err(DeviceError::from).map_err(PortError::from)?;
    let c_name = cstring(name)
        .map_err(DeviceError::from)
        .map_err(PortError::from)?;
    let make = |direction: &str| {
        (0..queues)
            .map(|q| Ring::create(&format!("{name}_{direction}{q}"), capacity, numa))
            .collect::<Result<Vec<Arc<Ring>>, RingError>>()
    };
    let (rx, tx) = (make("rx")?, make("tx")?);
    let raw = |rings: &[Arc<Ring>]| rings.iter().map(|r| r.as_ptr()).collect::<Vec<_>>();
    let (rx_raw, tx_raw) = (raw(&rx), raw(&tx));
    // SAFETY: EAL runs; both arrays hold `queues` rings, which the port keeps alive. The
    // driver is the only consumer of `rx` and the only producer of `tx`.
    let id = unsafe {
        sys::rte_eth_from_rings(
            c_name.as_ptr(),
            rx_raw.as_ptr(),
            queues.into(),
            tx_raw.as_ptr(),
            queues.into(),
            numa.unwrap_or(0),
        )
    };
    let id = u16::try_from(id)
        .map(PortId)
        .map_err(|_| PortError::Driver {
            port: name.to_owned(),
            action: "port over rings",
            errno: Errno::last(),
        })?;
    adopt(id);
    let rings = rx.iter().chain(&tx).cloned().collect();
    let port = Port::adopt(id, name, rings, hold)?;
    let to_port = rx.into_iter().map(Producer::over).collect();
    let from_port = tx.into_iter().map(Consumer::over).collect();
    Ok((port, Wire { to_port, from_port }))
}
