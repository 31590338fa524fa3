//! Keys given away: only where the configuration says so, to those who may see them, and not
//! without being remembered; and with them a real Wireshark reads what was captured.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use pmd_tests::daemon::binary;
use pmd_tests::frames::udp4;
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, Vn};
use pmd_tests::tap::Served;
use pmd_tests::wire::Algorithm;
use rustix::process::{Pid, Signal, kill_process};
use vswitch::manage::status::Sa;

fn ctl(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary("vswitchctl"));
    command.arg("--socket").arg(socket).args(args);
    command
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("a program")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).expect("a child");
}

fn wait_until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn tshark_decrypts_a_capture_with_exported_keys() {
    isolated(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let setup = Setup {
            allow_key_export: Some(true),
            ..Setup::new()
        };
        let mut rig = Rig::start_in(setup, dir.path());
        let served = Served::start(rig.handle(), dir.path());
        assert!(
            rig.status()
                .sas
                .iter()
                .all(|sa| !sa.rekey_due && sa.exported.is_none())
        );
        let (file, table) = (dir.path().join("up.pcapng"), dir.path().join("esp_sa"));
        let arguments = ["capture", "--underlay", "--vn", "blue"];
        let child = ctl(served.socket(), &arguments)
            .arg("-w")
            .arg(&file)
            .arg("--with-keys")
            .arg(&table)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("vswitchctl");
        wait_until("the capture begins", || {
            fs::metadata(&file).is_ok_and(|file| file.len() > 0)
        });
        rig.status();
        rig.from_vlan(101, &[udp4(1, 2, 0x4000, 120)]);
        rig.settle();
        let answer = rig.sealed("blue", "b", 1, &udp4(2, 1, 0x4000, 140));
        rig.from_underlay(&[answer]);
        rig.settle();
        interrupt(&child);
        let ended = child.wait_with_output().expect("vswitchctl ends");
        assert!(ended.status.success(), "{}", stderr(&ended));
        assert_eq!(
            stderr(&ended),
            "2 packets captured, 0 lost for lack of room\n"
        );
        assert_eq!((mode(&file), mode(&table)), (0o600, 0o600));

        // Without keys: ESP, and nothing of what is inside.
        let tshark = |config: &Path, filter: &str| {
            let output = run(Command::new("tshark")
                .env("WIRESHARK_CONFIG_DIR", config)
                .args([
                    "-n",
                    "-o",
                    "esp.enable_encryption_decode:TRUE",
                    "-Y",
                    filter,
                ])
                .args(["-T", "fields", "-E", "separator=|"])
                .args([
                    "-e",
                    "frame.interface_name",
                    "-e",
                    "geneve.vni",
                    "-e",
                    "ip.src",
                ])
                .args(["-e", "udp.dstport", "-e", "frame.comment", "-r"])
                .arg(&file));
            assert!(output.status.success(), "{}", stderr(&output));
            String::from_utf8(output.stdout).expect("text")
        };
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).expect("a directory");
        assert_eq!(tshark(&empty, "geneve"), "");
        assert_eq!(tshark(&empty, "esp").lines().count(), 2);
        // With them: the tenants' packets.
        let text = tshark(dir.path(), "geneve");
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('|').collect()).collect();
        let [out, back] = &lines[..] else {
            panic!("{text}")
        };
        for (line, [outer, inner], verdict) in [
            (out, ["192.0.2.1", "10.0.0.1"], "verdict=to-underlay"),
            (back, ["192.0.2.2", "10.0.0.2"], "verdict=to-vlan"),
        ] {
            assert_eq!(line[..2], ["up0", "0x0003e9"], "{text}");
            assert_eq!(line[2], format!("{outer},{inner}"));
            assert!(line[3].starts_with("4500,6081,"), "{text}");
            assert!(
                line[4].contains(verdict) && line[4].contains("vn=blue"),
                "{text}"
            );
        }

        let sas = rig.status().sas;
        assert!(
            sas.iter().all(|sa| sa.rekey_due && sa.exported.is_some()),
            "{sas:#?}"
        );
        // The file has readers by now that nobody knows of: it is not written again.
        let again = run(ctl(served.socket(), &["keys", "export", "-w"]).arg(&table));
        assert_eq!(again.status.code(), Some(1));
        assert!(
            stderr(&again).contains("there is a file already"),
            "{}",
            stderr(&again)
        );
        // To standard output if that is asked for: the same.
        let shown = run(&mut ctl(served.socket(), &["keys", "export", "-w", "-"]));
        assert_eq!(shown.stdout, fs::read(&table).expect("the table"));
        drop(served);
        rig.stop();
    });
}

#[test]
fn nobody_gets_keys_unless_told_so() {
    isolated(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let rig = Rig::start_in(Setup::new(), dir.path());
        let served = Served::start(rig.handle(), dir.path());
        let table = dir.path().join("esp_sa");
        for arguments in [
            &["keys", "export", "--format", "wireshark", "-w"][..],
            &["capture", "-w", "-", "--with-keys"],
        ] {
            let refused = run(ctl(served.socket(), arguments).arg(&table));
            assert_eq!(refused.status.code(), Some(1));
            let says = stderr(&refused);
            assert!(says.contains("403 Forbidden"), "{says}");
            assert!(says.contains("set `allow-key-export: true`"), "{says}");
            assert!(refused.stdout.is_empty() && !table.exists());
        }
        assert!(
            rig.status()
                .sas
                .iter()
                .all(|sa| !sa.rekey_due && sa.exported.is_none())
        );
        assert!(!dir.path().join("state/exported-keys").exists());
        drop(served);
        rig.stop();
    });
}

#[test]
fn keys_go_to_root_and_the_daemon_only_and_by_name() {
    isolated(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |mode| fs::set_permissions(dir.path(), Permissions::from_mode(mode));
        open(0o755).expect("mode");
        let setup = Setup {
            allow_key_export: Some(true),
            vns: vec![
                Vn::blue(),
                Vn {
                    protection: "integrity",
                    algorithm: Algorithm::Gmac128,
                    ..Vn::red()
                },
            ],
            ..Setup::with_c()
        };
        let rig = Rig::start_in(setup, dir.path());
        let served = Served::start(rig.handle(), dir.path());
        // Somebody of the socket's group.
        let program = dir.path().join("vswitchctl");
        fs::copy(binary("vswitchctl"), &program).expect("a copy");
        let refused = run(Command::new("setpriv")
            .args(["--reuid=65534", "--regid=0", "--clear-groups", "--"])
            .arg(&program)
            .arg("--socket")
            .arg(served.socket())
            .args(["keys", "export", "-w", "-"]));
        let says = stderr(&refused);
        assert!(says.contains("user 65534 may not see keys"), "{says}");
        assert!(refused.stdout.is_empty());
        let none = |sa: &Sa| !sa.rekey_due;
        assert!(rig.status().sas.iter().all(none));

        let export = |arguments: &[&str]| {
            run(ctl(served.socket(), &["keys", "export", "-w", "-"]).args(arguments))
        };
        let says = stderr(&export(&["--vn", "green"]));
        assert!(
            says.contains("404") && says.contains("no VN is called `green`"),
            "{says}"
        );
        // GMAC hides nothing.
        let says = stderr(&export(&["--vn", "red"]));
        assert!(says.contains("can be read without a key"), "{says}");
        assert!(rig.status().sas.iter().all(none));

        let given = export(&["--vn", "blue", "--peer", "b"]);
        assert!(given.status.success(), "{}", stderr(&given));
        let text = String::from_utf8(given.stdout).expect("text");
        let rows: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let row = |src: &str, dst: &str, sa: pmd_tests::wire::Sa| {
            format!(
                "\"IPv4\",\"{src}\",\"{dst}\",\"0x{:08x}\",\"AES-GCM with 16 octet ICV \
                 [RFC4106]\",\"0x{}\",\"NULL\",\"\"",
                sa.spi,
                hex::encode(&sa.key_and_salt)
            )
        };
        let (here, b) = ("192.0.2.1", "192.0.2.2");
        assert_eq!(
            rows,
            [
                row(here, b, rig.setup.outbound("blue", "b")),
                row(b, here, rig.setup.inbound("blue", "b")),
            ]
        );
        for sa in rig.status().sas {
            let given = sa.vn == "blue" && sa.peer == "b";
            assert_eq!(
                (sa.rekey_due, sa.exported.is_some()),
                (given, given),
                "{sa:?}"
            );
        }
        drop(served);
        rig.stop();
    });
}

/// A daemon with the configuration in `dir`.
struct Daemon {
    child: Child,
    log: std::path::PathBuf,
}

impl Daemon {
    fn start(dir: &Path, number: u32) -> Daemon {
        let log = dir.join(format!("log{number}"));
        let out = File::create(&log).expect("a log");
        let child = Command::new(binary("vswitchd"))
            .arg("--config")
            .arg(dir.join("nve.yaml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(out)
            .spawn()
            .expect("vswitchd");
        let daemon = Daemon { child, log };
        wait_until("vswitchd is up", || daemon.log().contains("ready"));
        daemon
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    fn sas(&self, dir: &Path) -> (String, Vec<Sa>) {
        let socket = dir.join("api.sock");
        let json = run(&mut ctl(&socket, &["--json", "show", "sas"]));
        let sas = serde_json::from_slice(&json.stdout).expect("SAs");
        let text = run(&mut ctl(&socket, &["show", "sas"])).stdout;
        (String::from_utf8(text).expect("text"), sas)
    }

    fn kill(&mut self) {
        // As a crash: what is to be remembered is on the disk by now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn an_exported_key_is_remembered_until_it_is_replaced() {
    isolated(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let setup = Setup {
            allow_key_export: Some(true),
            ..Setup::new()
        };
        fs::write(dir.path().join("nve.yaml"), setup.yaml(dir.path())).expect("a file");
        let socket = dir.path().join("api.sock");
        let key = setup.outbound("blue", "b");
        {
            let daemon = Daemon::start(dir.path(), 1);
            assert!(!daemon.log().contains("REKEY DUE"), "{}", daemon.log());
            let given = run(&mut ctl(&socket, &["keys", "export", "-w", "-"]));
            assert!(given.status.success(), "{}", stderr(&given));
            let log = daemon.log();
            let event = log
                .lines()
                .find(|line| line.contains("KEYS WERE EXPORTED"))
                .unwrap_or_else(|| panic!("{log}"));
            let spi = format!("blue host-a->b 0x{:08x}", key.spi);
            for part in ["key-export", "uid=0", "pid", &spi] {
                assert!(event.contains(part), "{part}: {event}");
            }
            let events = log
                .lines()
                .filter(|l| l.contains("\"kind\":\"key-export\""));
            assert_eq!(events.count(), 2, "one for each SA: {log}");
            assert!(!log.contains(&hex::encode(&key.key_and_salt)[..16]));
        }
        {
            let daemon = Daemon::start(dir.path(), 2);
            let (text, sas) = daemon.sas(dir.path());
            assert!(sas.iter().all(|sa| sa.rekey_due), "{sas:#?}");
            assert_eq!(text.matches("due 2").count(), 2, "{text}");
            let reminders = daemon.log().matches("REKEY DUE").count();
            assert_eq!(reminders, 2, "{}", daemon.log());
        }
        // A new key for one of them.
        let mut other = key.key_and_salt.clone();
        // Of the key and not of the salt behind it: that would leave it the same key.
        other[0] ^= 1;
        let file = dir.path().join(format!("{:x}.key", key.spi));
        fs::write(&file, format!("{}\n", hex::encode(other))).expect("a key");
        let daemon = Daemon::start(dir.path(), 3);
        let (_, sas) = daemon.sas(dir.path());
        for sa in sas {
            assert_eq!(sa.rekey_due, sa.direction == "inbound", "{sa:?}");
        }
        assert_eq!(daemon.log().matches("REKEY DUE").count(), 1);
    });
}
