//! The edge itself.

use super::table::printable;
use super::units;
use crate::manage::status::Nve;

/// `show nve`.
pub(super) fn nve(nve: &Nve) -> String {
    let memory = if nve.hugepages {
        "hugepages"
    } else {
        "ordinary pages (slower; reserve hugepages for production)"
    };
    [
        ("Name", printable(&nve.name)),
        ("Version", printable(&nve.version)),
        ("DPDK", printable(&nve.dpdk)),
        ("AEAD", printable(&nve.aead)),
        ("Memory", memory.to_owned()),
        ("Uptime", units::duration(nve.uptime)),
    ]
    .map(|(key, value)| format!("{key:<9}{value}\n"))
    .concat()
}
