//! Changes that are refused, each step of them failing in turn: the edge is as before, to the
//! last counter, and what was made for them is gone.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::path::Path;

use pmd_tests::frames::{mac, pattern};
use pmd_tests::isolate::isolated;
use pmd_tests::live::{apply, change, edited, key_file, order, timeless};
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, Vn};
use pmd_tests::wire::Sa;
use rustix::fs::{FlockOperation, flock};
use vswitch::manage::change::{Diff, Order, Refused};

/// Ports of this name and socket, in front of the others.
fn tenants(text: &str, sockets: &[(&str, &Path, &str)]) -> String {
    let mut ports = String::from("ports:\n");
    for (name, path, more) in sockets {
        let path = path.display();
        ports.push_str(&format!(
            "  - name: {name}\n    vn: blue\n    vhost: {{socket: {path}, mode: server{more}}}\n"
        ));
    }
    edited(text, &[("\nports:\n", &format!("\n{ports}"))])
}

struct Edge<'a> {
    rig: Rig,
    dir: &'a Path,
    text: String,
}

impl Edge<'_> {
    /// The change is refused for this reason, and leaves no trace.
    #[track_caller]
    fn refused(&mut self, order: Order, why: &str) -> Refused {
        let handle = self.rig.handle();
        let before = timeless(self.rig.status());
        let running = handle.running();
        let refused = change(&handle, order).expect_err(why);
        let text = refused.to_string();
        assert!(text.contains(why), "{why:?} is not in {text:?}");
        assert_eq!(timeless(self.rig.status()), before, "{why}");
        let after = handle.running();
        assert_eq!(after.revision, running.revision);
        assert_eq!(after.history, running.history);
        assert!(Diff::between(&running.config, &after.config).is_empty());
        let kept = fs::read_dir(self.dir.join("state"))
            .expect("state")
            .flatten();
        let kept = kept.filter(|entry| {
            let name = entry.file_name().into_string().expect("UTF-8");
            name.starts_with("revision-") && name.ends_with(".json")
        });
        assert_eq!(kept.count(), running.history.len(), "{why}");
        refused
    }

    fn order(&self, text: &str) -> Order {
        order(text, self.dir)
    }
}

/// Traffic goes as ever.
fn works(rig: &mut Rig) {
    let frame = pattern(mac(2), mac(1), 1, 100);
    rig.from_vlan(101, std::slice::from_ref(&frame));
    let out = rig.settle();
    assert_eq!(rig.opened("blue", "b", &out.underlay[0]).1, frame);
}

#[test]
fn a_refused_change_leaves_no_trace() {
    isolated(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let setup = Setup {
            vns: vec![Vn::blue(), Vn::red()],
            ..Setup::new()
        };
        let text = setup.yaml(dir);
        let rig = Rig::start_in(setup, dir);
        let handle = rig.handle();
        let mut edge = Edge { rig, dir, text };
        let small = edited(&edge.text, &[("vni: 2002", "vni: 2003")]);
        works(&mut edge.rig);

        // What was shown is what is done.
        let stale = Order {
            revision: Some(7),
            ..edge.order(&small)
        };
        edge.refused(stale, "revision 1 runs");
        let other = Order {
            diff: Some(Diff::default()),
            ..edge.order(&small)
        };
        edge.refused(other, "not be the change that was shown");

        // What cannot be done while it runs, with what could be.
        let workers = edited(&small, &[("cores: [0]", "cores: [0, 0]")]);
        edge.refused(edge.order(&workers), "~ workers");

        // Keys: damaged records, somebody else's, a disk that refuses.
        let first = edge.rig.setup.outbound("red", "b");
        let spare = Sa::new(first.spi + 0x1000, first.algorithm);
        let file = key_file(&spare, dir);
        let spi = (
            format!("spi: {}\n", first.spi),
            format!("spi: {}\n", spare.spi),
        );
        let key = (
            format!("key-file: {:x}.key", first.spi),
            format!("key-file: {file}"),
        );
        let renewed = edited(&edge.text, &[(&spi.0, &spi.1), (&key.0, &key.1)]);
        let config = edge.order(&renewed).config;
        let sa = config
            .security_associations
            .iter()
            .find(|sa| sa.spi.get() == spare.spi);
        let fingerprint = sa.expect("the new SA").key.fingerprint();
        let state = dir.join("state");
        let records = |with: &str| -> Vec<_> {
            let entries = fs::read_dir(&state).expect("state").flatten();
            let names = entries.map(|entry| entry.path());
            names
                .filter(|p| p.to_string_lossy().contains(with))
                .collect()
        };
        let theirs = fingerprint.to_string();
        let lock = format!("/run/lock/vswitch-key-{theirs}.lock");
        let held = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&lock);
        let held = held.expect("a lock");
        flock(&held, FlockOperation::NonBlockingLockExclusive).expect("locked");
        edge.refused(
            edge.order(&renewed),
            "another process of this host sends under the same key",
        );
        drop(held);
        // Where the record of a used key lies, and so that of the spare one.
        let ours = handle.running().config.security_associations[0]
            .key
            .fingerprint();
        let record = records(&ours.to_string()).remove(0);
        let name = record.to_string_lossy().replace(&ours.to_string(), &theirs);
        let record = Path::new(&name).to_owned();
        fs::write(&record, "nonsense").expect("a record");
        edge.refused(edge.order(&renewed), "give the association a new key");
        fs::remove_file(&record).expect("removed");
        fs::create_dir(record.with_extension("new")).expect("in the way");
        edge.refused(edge.order(&renewed), "write the record");
        fs::remove_dir(record.with_extension("new")).expect("removed");
        let limit = format!("{}    hard-limit: 1000\n    soft-limit: 1000\n", spi.0);
        let limited = edited(&edge.text, &[(&spi.0, &limit)]);
        edge.refused(edge.order(&limited), "association");

        // Sockets: in the way, nowhere to put it, somebody else's; the one that could be made
        // is gone again.
        let (one, two) = (dir.join("one.sock"), dir.join("two.sock"));
        fs::write(&two, "precious").expect("a file");
        let both = tenants(&small, &[("t-1", &one, ""), ("t-2", &two, "")]);
        edge.refused(edge.order(&both), "is not a socket");
        assert!(!one.exists(), "made for nothing and left");
        assert_eq!(fs::read(&two).expect("there"), b"precious");
        fs::remove_file(&two).expect("removed");
        let missing = dir.join("missing/one.sock");
        let nowhere = tenants(&small, &[("t-1", &one, ""), ("t-2", &missing, "")]);
        edge.refused(edge.order(&nowhere), "No such file or directory");
        let listener = UnixListener::bind(&two).expect("a socket");
        edge.refused(edge.order(&both), "another process listens");
        drop(listener);

        // Buffers for more tenants than there is memory for.
        let paths: Vec<_> = (0..40)
            .map(|i| dir.join(format!("many-{i}.sock")))
            .collect();
        let names: Vec<_> = (0..40).map(|i| format!("t-{i}")).collect();
        let many: Vec<_> = names
            .iter()
            .zip(&paths)
            .map(|(n, p)| (&**n, &**p, ""))
            .collect();
        edge.refused(
            edge.order(&tenants(&small, &many)),
            "no memory for the pool",
        );
        assert!(paths.iter().all(|path| !path.exists()));

        // The way back cannot be kept.
        let next = state.join("revision-00000002.new");
        fs::create_dir(&next).expect("in the way");
        edge.refused(edge.order(&both), "there would be no way back");
        assert!(!one.exists() && !two.exists());
        fs::remove_dir(&next).expect("removed");

        // A dry run does nothing; all of it then works in one go.
        let all = edited(&both, &[(&spi.0, &spi.1), (&key.0, &key.1)]);
        let before = timeless(edge.rig.status());
        let dry = Order {
            dry_run: true,
            ..edge.order(&all)
        };
        assert!(change(&handle, dry).expect("it could be done").dry_run);
        assert_eq!(timeless(edge.rig.status()), before);
        assert!(!one.exists());
        let applied = apply(&handle, &all, dir);
        assert_eq!(applied.revision, 2);
        assert!(one.exists() && two.exists());
        edge.rig.rebase();
        works(&mut edge.rig);

        // Sockets that are to be others are closed first. If that cannot be completed, those
        // that were there come back.
        let moved = dir.join("gone");
        fs::create_dir(&moved).expect("a directory");
        let third = moved.join("three.sock");
        let three = tenants(&all, &[("t-3", &third, "")]);
        apply(&handle, &three, dir);
        edge.rig.rebase();
        let wider = format!("{}, mode: server", one.display());
        let wider3 = format!("{}, mode: server", third.display());
        let others = edited(
            &three,
            &[
                (&wider, &format!("{wider}, queues: 2")),
                (&wider3, &format!("{wider3}, queues: 2")),
            ],
        );
        let elsewhere = dir.join("elsewhere");
        fs::rename(&moved, &elsewhere).expect("renamed");
        let refused = change(&handle, edge.order(&others)).expect_err("refused");
        let Refused::NotUndone { refused, port, .. } = refused else {
            panic!("{refused}")
        };
        assert!(refused.to_string().contains("No such file"), "{refused}");
        assert_eq!(port, "t-3");
        assert!(one.exists(), "back in service");
        assert_eq!(handle.running().revision.number, 3);
        works(&mut edge.rig);
        fs::rename(&elsewhere, &moved).expect("renamed back");
        apply(&handle, &all, dir);
        apply(&handle, &others, dir);
        assert!(one.exists() && third.exists());
        apply(&handle, &edge.text, dir);
        assert!(!one.exists() && !two.exists() && !third.exists());
        edge.rig.rebase();
        works(&mut edge.rig);
        let _ = fs::remove_file(lock);
        edge.rig.stop();
    });
}

#[test]
fn a_revision_whose_key_was_overwritten_is_not_gone_back_to() {
    isolated(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let setup = Setup::new();
        let sa = setup.outbound("blue", "b");
        let text = setup.yaml(dir);
        let rig = Rig::start_in(setup, dir);
        let handle = rig.handle();
        let other = Sa::new(sa.spi + 0x1000, sa.algorithm);
        fs::write(dir.join(format!("{:x}.key", sa.spi)), other.key_file()).expect("a key");
        let shown = Diff::between(&handle.running().config, &order(&text, dir).config);
        assert_eq!(shown.entries.len(), 1, "{shown}");
        apply(&handle, &text, dir);
        let refused = handle.recorded(None).expect_err("another key").to_string();
        assert!(refused.contains("which now holds"), "{refused}");
        assert!(handle.recorded(Some(9)).is_err());
        let kept: Vec<String> = (1..=2)
            .map(|n| {
                fs::read_to_string(dir.join(format!("state/revision-{n:08}.json"))).expect("kept")
            })
            .collect();
        let keys = [sa.key_file(), other.key_file()];
        for key in keys {
            assert!(
                kept.iter().all(|text| !text.contains(key.trim())),
                "a key on the disk"
            );
        }
        rig.stop();
    });
}
