//! Changes of a running edge, as its tests ask for them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use vswitch::manage::change::{Applied, Diff, How, Order, Refused};
use vswitch::manage::config::Config;
use vswitch::manage::edge::Handle;
use vswitch::manage::status::Status;

use crate::rig::{Outcome, Rig};
use crate::setup::Setup;
use crate::wire::Sa;

/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The text of a configuration with parts of it replaced; each must be there once.
#[track_caller]
pub fn edited(text: &str, replacements: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (old, new) in replacements {
        assert_eq!(text.matches(old).count(), 1, "{old:?} in\n{text}");
        text = text.replace(old, new);
    }
    text
}

/// An order to run this text; its key files are in `dir`.
#[track_caller]
pub fn order(text: &str, dir: &Path) -> Order {
    let file = dir.join("nve.yaml");
    let config = Config::parse_as(text, &file).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Order {
        config,
        revision: None,
        diff: None,
        dry_run: false,
        how: How::Apply,
        of: None,
        who: None,
    }
}

/// Carries an order out.
pub fn change(handle: &Handle, order: Order) -> Result<Applied, Refused> {
    handle
        .change_blocking(order, PATIENCE)
        .expect("the switch answers")
}

/// Has this text run.
#[track_caller]
pub fn apply(handle: &Handle, text: &str, dir: &Path) -> Applied {
    change(handle, order(text, dir)).unwrap_or_else(|refused| panic!("{refused}"))
}

/// Goes back to a revision, or to the one before the running one.
#[track_caller]
pub fn rollback(handle: &Handle, number: Option<u64>) -> Applied {
    let (number, config) = handle.recorded(number).unwrap_or_else(|e| panic!("{e}"));
    let order = Order {
        config,
        revision: None,
        diff: None,
        dry_run: false,
        how: How::Rollback,
        of: Some(number),
        who: None,
    };
    change(handle, order).unwrap_or_else(|refused| panic!("{refused}"))
}

/// Writes the key file of an SA and returns its name.
pub fn key_file(sa: &Sa, dir: &Path) -> String {
    let name = format!("{:x}.key", sa.spi);
    let path = dir.join(&name);
    fs::write(&path, sa.key_file()).expect("key file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
    name
}

/// A report without what the passing of time and other processes change, and without which
/// thread's cache a free buffer rests in.
pub fn timeless(mut status: Status) -> Status {
    status.nve.uptime = 0;
    status.nve.uptime_ns = 0;
    for worker in &mut status.workers {
        worker.busy = 0.0;
        worker.busy_ticks = 0;
        worker.idle_ticks = 0;
    }
    for latency in &mut status.latency {
        latency.window = 0.0;
        latency.recent = Default::default();
    }
    status.memory.pages.clear();
    status.memory.heaps.clear();
    for pool in &mut status.memory.pools {
        pool.cached = 0;
    }
    status
}

/// A rig, the text that it runs, and how to change it.
pub struct Live<'a> {
    /// The rig.
    pub rig: Rig,
    /// For changes that are none of those below.
    pub handle: Handle,
    /// Where key files and state are.
    pub dir: &'a Path,
    /// What it was started with.
    pub text: String,
}

impl<'a> Live<'a> {
    /// Starts it; key files and state are in `dir`.
    pub fn start(setup: Setup, dir: &'a Path) -> Self {
        let text = setup.yaml(dir);
        let rig = Rig::start_in(setup, dir);
        let handle = rig.handle();
        Live {
            rig,
            handle,
            dir,
            text,
        }
    }

    /// Applies the text with these replacements.
    #[track_caller]
    pub fn change(&mut self, replacements: &[(&str, &str)]) {
        let text = edited(&self.text, replacements);
        let applied = apply(&self.handle, &text, self.dir);
        assert!(!applied.diff.is_empty());
        self.rig.rebase();
    }

    /// Goes back, after which everything but counters is as before the change.
    #[track_caller]
    pub fn back(&mut self) {
        rollback(&self.handle, None);
        self.rig.rebase();
        let order = order(&self.text, self.dir);
        let diff = Diff::between(&self.handle.running().config, &order.config);
        assert!(diff.is_empty(), "{diff}");
    }

    /// A tenant behind a VLAN sends a frame.
    pub fn vlan(&mut self, vid: u16, frame: &[u8]) -> Outcome {
        self.rig.from_vlan(vid, &[frame.to_vec()]);
        self.rig.settle()
    }

    /// The underlay brings a packet.
    pub fn underlay(&mut self, packet: Vec<u8>) -> Outcome {
        self.rig.from_underlay(&[packet]);
        self.rig.settle()
    }
}
