//! What can go wrong between the switch and the host's kernel, each with what to do about it.
use std::io;
use std::time::Duration;

use super::types::IpNet;

/// An error of this room; the texts are for the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// No netlink socket to be had.
    #[error("cannot open a netlink socket to the kernel: {0}")]
    Socket(#[source] io::Error),

    /// The kernel (or the connection to it) refused a request.
    #[error("{what}: {source}{}", hint(.source))]
    Netlink {
        /// What was asked for, naming the interface.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },

    /// The tap of a port did not appear.
    #[error(
        "interface {tap} (exception port) did not appear within {waited:?}: is the net_tap \
         device of this underlay port created with iface={tap}, in this network namespace?"
    )]
    TapMissing {
        /// The tap's name.
        tap: String,
        /// How long was waited.
        waited: Duration,
    },

    /// A name that cannot be an interface's.
    #[error(
        "`{0}` is not a name of a network interface (1 to 15 characters, no spaces or slashes)"
    )]
    BadInterfaceName(String),

    /// The guarded interface does not exist.
    #[error("interface {0} does not exist in this network namespace")]
    InterfaceMissing(String),

    /// The interface under the DPDK port has addresses of its own: the kernel would use it.
    #[error(
        "interface {interface} carries {}, but the switch drives it: move the addresses to the \
         underlay port's `addresses` (they are put on its tap) and remove them here with \
         `ip address flush dev {interface}`", list(.addresses)
    )]
    AddressesOnDevice {
        /// The interface.
        interface: String,
        /// The addresses that are in the way.
        addresses: Vec<IpNet>,
    },

    /// A helper program is not installed.
    #[error("`{program}` is not installed; install it with `apt-get install {package}`")]
    ProgramMissing {
        /// The program.
        program: &'static str,
        /// Debian's package of it.
        package: &'static str,
    },

    /// A helper program failed.
    #[error("`{program}` failed for interface {interface}: {message}")]
    ProgramFailed {
        /// The program.
        program: &'static str,
        /// The interface it was called for.
        interface: String,
        /// What it said.
        message: String,
    },
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => " (root or CAP_NET_ADMIN is needed)",
        _ => "",
    }
}

fn list(addresses: &[IpNet]) -> String {
    let texts: Vec<String> = addresses.iter().map(IpNet::to_string).collect();
    texts.join(", ")
}
