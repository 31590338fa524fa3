//! Checks of a host: has it what the switch and its configuration need, and if not, what
//! does an operator type? `vswitchctl doctor` runs all of them, `vswitchd` those that decide
//! whether it can start ([`start`]).
//!
//! A check is a function over a [`Host`], which is a directory, so that a test gives it any
//! machine it likes; it writes nothing and disturbs nobody.

mod cores;
mod cpu;
mod finding;
mod host;
mod kernel;
mod memory;
mod needs;
mod nics;
mod privileges;
mod service;
mod sockets;
pub mod start;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use finding::{Finding, Level, Report};
pub use host::Host;
pub use needs::{Device, DeviceKind, Needs, Socket};

use super::config::{Config, ConfigError};

/// Where the configuration is if nothing else is said.
pub const DEFAULT_CONFIG: &str = "/etc/vswitch/nve.yaml";

/// All checks of `host` for what `needs` says; `dpdk` is the version of the library.
pub fn examine(host: &Host, needs: &Needs, dpdk: &str) -> Vec<Finding> {
    let mut out = Vec::new();
    privileges::check(host, needs, &mut out);
    cpu::dpdk(dpdk, &mut out);
    cpu::features(host, &mut out);
    cpu::clock(host, &mut out);
    memory::check(host, needs, &mut out);
    memory::numa(host, needs, &mut out);
    privileges::memlock(host, needs, &mut out);
    privileges::files(host, needs, &mut out);
    cores::usable(host, needs, &mut out);
    cores::isolation(host, needs, &mut out);
    cores::siblings(host, needs, &mut out);
    cpu::governor(host, needs, &mut out);
    nics::vfio(host, needs, &mut out);
    nics::check(host, needs, &mut out);
    nics::interfaces(host, needs, &mut out);
    kernel::taps(host, needs, &mut out);
    kernel::xdp(host, needs, &mut out);
    kernel::guard(host, needs, &mut out);
    sockets::directories(host, needs, &mut out);
    sockets::in_use(host, needs, &mut out);
    sockets::prefix(host, needs, &mut out);
    sockets::leftovers(host, needs, &mut out);
    service::state(host, needs, &mut out);
    service::limits(host, needs, &mut out);
    out
}

/// Reads the configuration and says what it found: the first finding, and what to check for.
/// `file` is `None` if the operator named none; then the default file need not be there.
pub fn configuration(file: Option<&Path>) -> (Finding, Needs) {
    const NAME: &str = "config";
    let path = file.unwrap_or(Path::new(DEFAULT_CONFIG));
    let shown = path.display();
    match Config::load(path) {
        Ok(config) => {
            let found = match config.warnings().len() {
                0 => format!("{shown} is valid"),
                n => format!("{shown} is valid, with {n} warnings (vswitchd check)"),
            };
            (Finding::ok(NAME, found), Needs::of(&config))
        }
        Err(ConfigError::Unreadable { source, .. })
            if file.is_none() && source.kind() == std::io::ErrorKind::NotFound =>
        {
            let why = "ports, cores and sockets are not checked";
            let finding = Finding::warn(NAME, format!("no {shown}"), why);
            let finding = finding.mend("vswitchctl doctor --config FILE");
            (finding, Needs::default())
        }
        Err(error) => {
            let first = error.to_string();
            let first = first.lines().next().unwrap_or_default().to_owned();
            let why = "ports, cores and sockets are not checked";
            let finding = Finding::fail(NAME, first, why);
            let finding = finding.mend(format!("vswitchd check --config {shown}"));
            (finding, Needs::default())
        }
    }
}

/// Everything about this host.
pub fn report(file: Option<&Path>) -> Report {
    let (first, needs) = configuration(file);
    let mut findings = vec![first];
    findings.extend(examine(&Host::here(), &needs, &crate::dpdk::eal::version()));
    Report::new(findings)
}
