//! Devices come and go while the process runs: any vdev or PCI device by its devargs.

use std::sync::{Mutex, PoisonError};

use dpdk_sys as sys;

use super::eal::EalError;
use super::error::{Errno, NulByte, cstring};
use super::explain::explain;
use super::log;

/// DPDK's number of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

/// Why a device is not there.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// EAL is not there.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// The arguments cannot be passed.
    #[error("device: {0}")]
    Argument(#[from] NulByte),
    /// Somebody has it open.
    #[error("{0}: the device is in use already; every device has one name and one user")]
    InUse(String),
    /// The driver or the bus refused.
    #[error("{device}: no such device, or its driver refused it: {errno}; {hint}")]
    Probe {
        /// As configured.
        device: String,
        /// Why.
        errno: Errno,
        /// What to do.
        hint: &'static str,
    },
    /// It is there, but no Ethernet port.
    #[error("{0}: the device has no Ethernet port")]
    NoPort(String),
}

/// Ports that a `Port` owns.
static OWNED: Mutex<Vec<PortId>> = Mutex::new(Vec::new());

/// The device's name, which is what precedes its arguments.
pub(in crate::dpdk) fn name_of(devargs: &str) -> &str {
    devargs.split(',').next().unwrap_or(devargs)
}

/// Brings a device up and finds its port. The caller holds EAL.
pub(in crate::dpdk) fn attach(devargs: &str) -> Result<PortId, DeviceError> {
    let name = name_of(devargs);
    let c_args = cstring(devargs)?;
    // Held throughout: DPDK's device lists are not for two threads at once.
    let mut owned = OWNED.lock().unwrap_or_else(PoisonError::into_inner);
    let found = match port_by_name(name)? {
        // A PCI device that EAL found at its start.
        Some(id) => id,
        None => {
            let _of_others = log::complaints();
            // SAFETY: EAL runs; the arguments live through the call, which copies them.
            let probed = Errno::check(unsafe { sys::rte_dev_probe(c_args.as_ptr()) });
            match probed {
                Ok(_) | Err(Errno(libc::EEXIST)) => {}
                Err(errno) => {
                    let told = explain(&log::complaints());
                    let hint = told.unwrap_or_else(|| hint(devargs, errno));
                    return Err(DeviceError::Probe {
                        device: devargs.to_owned(),
                        errno,
                        hint,
                    });
                }
            }
            match port_by_name(name)? {
                Some(id) => id,
                None => port_of_device(devargs)?,
            }
        }
    };
    if owned.contains(&found) {
        return Err(DeviceError::InUse(name.to_owned()));
    }
    owned.push(found);
    Ok(found)
}

/// Notes a port that came by another way than [`attach`].
pub(in crate::dpdk) fn adopt(id: PortId) {
    OWNED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(id);
}

/// Closes a stopped port and removes its device if no other port is on it.
pub(in crate::dpdk) fn detach(id: PortId) -> Result<(), Errno> {
    let mut owned = OWNED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut info = sys::rte_eth_dev_info::default();
    // SAFETY: EAL runs and the port is ours; the call fills `info`.
    Errno::check(unsafe { sys::rte_eth_dev_info_get(id.0, &mut info) })?;
    // SAFETY: no queue of the port is in use any more.
    let closed = Errno::check(unsafe { sys::rte_eth_dev_close(id.0) });
    owned.retain(|o| *o != id);
    closed?;
    // SAFETY: `device` outlives its ports until it is removed.
    let siblings = unsafe { sys::rte_eth_find_next_of(0, info.device) };
    if u32::from(siblings) >= sys::RTE_MAX_ETHPORTS && !info.device.is_null() {
        // SAFETY: the device has no port left.
        Errno::check(unsafe { sys::rte_dev_remove(info.device) })?;
    }
    Ok(())
}

fn port_by_name(name: &str) -> Result<Option<PortId>, NulByte> {
    let name = cstring(name)?;
    let mut id = 0;
    // SAFETY: EAL runs; name and id live through the call.
    let found = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) };
    Ok((found == 0).then_some(PortId(id)))
}

/// For drivers that name their ports otherwise than the device.
fn port_of_device(devargs: &str) -> Result<PortId, DeviceError> {
    let c_args = cstring(devargs)?;
    let no_port = || DeviceError::NoPort(devargs.to_owned());
    let mut iterator = sys::rte_dev_iterator::default();
    // SAFETY: EAL runs; the arguments outlive the iterator, which is cleaned up below.
    if unsafe { sys::rte_eth_iterator_init(&mut iterator, c_args.as_ptr()) } != 0 {
        return Err(no_port());
    }
    // SAFETY: as above.
    let id = unsafe { sys::rte_eth_iterator_next(&mut iterator) };
    if u32::from(id) >= sys::RTE_MAX_ETHPORTS {
        // An iterator that came to its end has cleaned itself up.
        return Err(no_port());
    }
    // SAFETY: as above, stopped before its end.
    unsafe { sys::rte_eth_iterator_cleanup(&mut iterator) };
    Ok(PortId(id))
}

fn hint(devargs: &str, errno: Errno) -> &'static str {
    let pci = devargs.contains(':') && devargs.starts_with(|c: char| c.is_ascii_hexdigit());
    match errno.0 {
        _ if pci => "name it in the PCI list and bind it to vfio-pci (dpdk-devbind.py)",
        libc::EPERM | libc::EACCES => "the process may not do this: run it as root",
        libc::ENOENT | libc::ENODEV => "look at the driver's name (net_…) and its arguments",
        _ => "DPDK's log lines before this one say more",
    }
}
