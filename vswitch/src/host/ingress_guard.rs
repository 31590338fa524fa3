//! With af_packet the kernel receives the same packets as the switch, on the interface under
//! the port, and would answer ARP and ping there beside the tap. While a guard stands, the
//! kernel's copy is dropped at the interface's netdev ingress hook. Packet sockets (and XDP)
//! get their copy before that hook, so the switch still sees everything.
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tracing::warn;

use super::device::{check_name, run};
use super::error::HostError;
use super::netlink::Kernel;

/// The guard of one interface; it ends with [`IngressGuard::remove`] or with its drop. What a
/// killed process left behind is replaced by the next guard.
#[derive(Debug)]
pub struct IngressGuard {
    interface: String,
    /// The interface's `disable_ipv6` before us, if we changed it.
    ipv6_before: Option<String>,
    standing: bool,
}

impl IngressGuard {
    /// Puts the guard up. Refuses while the interface carries addresses other than link-local
    /// ones: they belong on the tap. Needs root, nftables and a running tokio runtime.
    pub async fn install(interface: &str) -> Result<Self, HostError> {
        check_name(interface)?;
        refuse_addresses(interface).await?;
        let mut guard = Self {
            interface: interface.to_owned(),
            ipv6_before: None,
            standing: false,
        };
        guard.ensure().await?;
        guard.standing = true;
        guard.silence_ipv6();
        Ok(guard)
    }

    /// The interface that is guarded.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Puts the rule (back) in place, in one transaction: worth calling now and then, as
    /// reloading a firewall may flush every table there is.
    pub async fn ensure(&self) -> Result<(), HostError> {
        nft(&self.interface, &install_script(&self.interface)).await
    }

    /// Takes the guard down and says if that failed.
    pub async fn remove(mut self) -> Result<(), HostError> {
        self.standing = false;
        self.restore_ipv6();
        nft(&self.interface, &remove_script(&self.interface)).await
    }

    /// The ingress hook does not keep the kernel from sending: router solicitations, multicast
    /// listener reports and neighbour discovery of a link-local address with the port's MAC.
    fn silence_ipv6(&mut self) {
        let path = ipv6_switch(&self.interface);
        // No such file: a kernel without IPv6.
        let Ok(before) = fs::read_to_string(&path) else {
            return;
        };
        if before.trim() == "1" {
            return;
        }
        match fs::write(&path, "1") {
            Ok(()) => self.ipv6_before = Some(before),
            Err(error) => warn!(
                interface = self.interface, %error,
                "IPv6 stays on: the kernel may send from this interface beside the switch"
            ),
        }
    }

    fn restore_ipv6(&mut self) {
        if let Some(before) = self.ipv6_before.take() {
            // The interface may be gone by now, and its switch with it.
            let _ = fs::write(ipv6_switch(&self.interface), before);
        }
    }
}

impl Drop for IngressGuard {
    fn drop(&mut self) {
        if !std::mem::take(&mut self.standing) {
            return;
        }
        self.restore_ipv6();
        let removed = Command::new("nft")
            .arg(remove_script(&self.interface))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !removed.is_ok_and(|status| status.success()) {
            warn!(
                interface = self.interface,
                "the ingress guard could not be removed"
            );
        }
    }
}

async fn refuse_addresses(interface: &str) -> Result<(), HostError> {
    let kernel = Kernel::connect()?;
    let failed = |source| HostError::Netlink {
        what: format!("cannot list the addresses of {interface}"),
        source,
    };
    let link = kernel.link(interface).await.map_err(failed)?;
    let link = link.ok_or_else(|| HostError::InterfaceMissing(interface.to_owned()))?;
    let mut addresses = kernel.addresses(link.index).await.map_err(failed)?;
    addresses.retain(|net| match net.address() {
        IpAddr::V4(address) => !address.is_link_local(),
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    });
    match addresses.is_empty() {
        true => Ok(()),
        false => Err(HostError::AddressesOnDevice {
            interface: interface.to_owned(),
            addresses,
        }),
    }
}

async fn nft(interface: &str, script: &str) -> Result<(), HostError> {
    run("nft", "nftables", interface, &["-f", "-"], script).await
}

fn ipv6_switch(interface: &str) -> PathBuf {
    PathBuf::from(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"))
}

/// The table's name; what nftables does not take in a name is written in hexadecimal.
fn table(interface: &str) -> String {
    let mut name = String::from("vswitch_");
    for c in interface.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            name.push(c);
        } else {
            // Writing to a String does not fail.
            let _ = write!(name, "_x{:02x}", u32::from(c));
        }
    }
    name
}

/// Replaces whatever table of that name there is: adding an existing table is no error.
fn install_script(interface: &str) -> String {
    let table = table(interface);
    format!(
        "table netdev {table}\n\
         delete table netdev {table}\n\
         table netdev {table} {{\n\
         \tchain ingress {{\n\
         \t\ttype filter hook ingress device \"{interface}\" priority -500; policy drop;\n\
         \t}}\n\
         }}\n"
    )
}

/// Not an error either where the table is gone already.
fn remove_script(interface: &str) -> String {
    let table = table(interface);
    format!("add table netdev {table}; delete table netdev {table}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_are_ones_nftables_takes() {
        assert_eq!(table("vh0"), "vswitch_vh0");
        assert_eq!(table("eth0.100"), "vswitch_eth0_x2e100");
        assert_eq!(table("br-a@b"), "vswitch_br_x2da_x40b");
    }
}
