//! The semantics: from the raw file to the model, with everything that is wrong collected.
//!
//! Each part returns what it can even if there were errors, so that the parts after it are
//! checked too; a model from which an error was reported is thrown away by the caller.

mod authority;
mod devices;
mod node;
mod peers;
mod ports;
mod reach;
mod sas;
mod underlay;
mod vns;

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use super::accounts::Accounts;
use super::findings::{Findings, Names, Once};
use super::model::Model;
use super::problem::KeyPath;
use super::raw;

/// What the parts need of one another.
struct Context<'a> {
    f: &'a mut Findings,
    /// Directory of the configuration file.
    base: &'a Path,
    accounts: &'a Accounts,
    workers: usize,
    peers: Names<'a>,
    vns: Names<'a>,
    devices: Names<'a>,
    /// By index of the network.
    places: Vec<vns::Places>,
    /// Networks with an edge that could not be resolved: who is not on them is not known.
    unsure_edges: HashSet<usize>,
}

/// Checks the whole file. The model is of use only if no error was found.
pub(super) fn check(raw: &raw::File, base: &Path, accounts: &Accounts, f: &mut Findings) -> Model {
    let root = KeyPath::root();
    let workers = node::workers(raw, f);

    // Ports of all kinds stand in the same tables, so they share one set of names.
    let mut port_names = Once::new();
    let list = root.key("underlay").key("ports");
    let underlay_ports = raw.underlay.iter().flat_map(|u| &u.ports);
    let names = underlay_ports.map(|port| port.name.as_str());
    Names::collect(f, &mut port_names, "underlay port", &list, names);
    let names = raw.devices.iter().map(|device| device.name.as_str());
    let devices = Names::collect(f, &mut port_names, "device", &root.key("devices"), names);
    let names = raw.ports.iter().map(|port| port.name.as_str());
    Names::collect(f, &mut port_names, "port", &root.key("ports"), names);
    let names = raw.peers.iter().map(|peer| peer.name.as_str());
    let peers = Names::collect(f, &mut Once::new(), "peer", &root.key("peers"), names);
    let names = raw.vns.iter().map(|vn| vn.name.as_str());
    let vns = Names::collect(f, &mut Once::new(), "VN", &root.key("vns"), names);

    let mut cx = Context {
        f,
        base,
        accounts,
        workers: workers.cores.len(),
        peers,
        vns,
        devices,
        places: raw.vns.iter().map(|_| vns::Places::new()).collect(),
        unsure_edges: HashSet::new(),
    };
    let mut used = Once::new();
    let underlay = underlay::check(&mut cx, raw.underlay.as_ref(), &mut used);
    let devices = devices::check(&mut cx, &raw.devices, &mut used);
    let peers = peers::check(&mut cx, &raw.peers, &underlay);
    reach::check(&mut cx, &peers, &underlay);
    let api_socket = node::api_socket(raw, cx.f);
    let authority = authority::check(&mut cx, raw.authority.as_ref(), &underlay);
    let mut vns = vns::check(&mut cx, &raw.vns, raw.authority.is_some());
    let ports = ports::check(&mut cx, &raw.ports, &api_socket);
    vns::inner_mtus(&mut cx, &mut vns, &peers, &underlay);
    vns::attached_mtus(&mut cx, &mut vns, &ports, &devices);
    let security_associations = sas::check(&mut cx, &raw.security_associations, &vns, &peers);
    sas::coverage(&mut cx, &security_associations, &vns);
    Model {
        name: raw.nve.name.clone(),
        eal: node::eal(raw, cx.f),
        mempool: node::mempool(raw, cx.f, &underlay, &devices),
        workers,
        state_dir: node::state_dir(raw, cx.f),
        api_socket,
        metrics_listen: node::metrics_listen(raw, cx.f),
        security_log: node::security_log(raw, cx.f),
        underlay,
        devices,
        peers,
        vns,
        ports,
        security_associations,
        allow_key_export: node::allow_key_export(raw, cx.f),
        authority,
    }
}

impl Context<'_> {
    /// The index of a worker.
    fn worker(&mut self, path: &KeyPath, index: u64) -> u16 {
        let workers = self.workers as u64;
        if index >= workers {
            self.f.error(
                path,
                format!(
                    "there is no worker {index}: workers.cores makes 0 to {}",
                    workers - 1
                ),
            );
        }
        u16::try_from(index).unwrap_or_default()
    }
}

/// An absolute path without `.`, `..` and doubled slashes, or an error.
fn absolute(f: &mut Findings, path: &KeyPath, text: &str) -> PathBuf {
    let written = Path::new(text);
    if !written.is_absolute() {
        f.error(path, format!("{text:?} is not an absolute path"));
    } else if written
        .components()
        .any(|part| part == Component::ParentDir)
    {
        f.error(
            path,
            format!("{text:?} has `..` in it: write where it leads"),
        );
    } else if text.contains('\0') {
        f.error(path, format!("{text:?} has a zero byte in it"));
    }
    // Compared as components, two spellings of one path are the same.
    written.components().collect()
}

/// An absolute path that fits into a socket address.
fn socket(f: &mut Findings, path: &KeyPath, text: &str) -> PathBuf {
    /// `sun_path` of unix(7), less the final zero.
    const LONGEST: usize = 107;
    let socket = absolute(f, path, text);
    if text.len() > LONGEST {
        f.error(
            path,
            format!(
                "{} bytes are too long for a unix socket: at most {LONGEST}",
                text.len()
            ),
        );
    } else if text.ends_with('/') {
        f.error(path, format!("{text:?} is a directory, not a socket"));
    }
    socket
}
