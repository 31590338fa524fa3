//! `vswitchctl trace`, as a person or a script uses it.

use pmd_tests::daemon::binary;
use pmd_tests::frames::{mac, pattern, text};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::Setup;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vswitch::manage::api::Api;
use vswitch::manage::observe::Filter;

#[test]
fn a_trace_on_the_command_line_ends_by_itself_or_with_its_reader() {
    isolated(|| {
        let mut rig = Rig::start(Setup::new());
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("api.sock");
        let (path, handle) = (socket.clone(), rig.handle());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let api = Api::bind(&path).await.unwrap();
                api.serve(handle, std::future::pending()).await.unwrap();
            });
        });
        let began = Instant::now();
        while !socket.exists() {
            assert!(began.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(5));
        }
        let ctl = |args: &[&str]| {
            let mut command = Command::new(binary("vswitchctl"));
            command.arg("--socket").arg(&socket).arg("trace").args(args);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        };
        // Two packets and no more.
        let mut child = ctl(&["-n", "2", "--vn", "blue"]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut text = String::new();
        let began = Instant::now();
        // It begins when the switch has its question: packets until then pass unseen.
        while child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(10));
            rig.from_vlan(101, &[pattern(mac(3), mac(1), 0, 64)]);
            rig.settle();
        }
        for line in lines.by_ref() {
            text += &(line.unwrap() + "\n");
        }
        assert_eq!(text.matches("\npacket 0.").count() + 1, 2, "{text}");
        assert!(
            text.contains("ns  w0  forward      mapping 52:54:00:00:00:03"),
            "{text}"
        );
        assert!(
            text.contains("=> sent: to-vlan: sent to a VLAN of a physical port"),
            "{text}"
        );
        assert!(text.ends_with("2 packets\n"), "{text}");
        // None in a second.
        let output = ctl(&["--timeout", "1", "--json", "--drop", "any"])
            .output()
            .unwrap();
        let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            line["end"],
            serde_json::json!({"packets": 0, "lost": 0, "reason": "timeout"})
        );
        // A wrong name is refused.
        let output = ctl(&["--port", "nope"]).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            error.contains("there is no port `nope`; there are blue-1"),
            "{error}"
        );
        // A reader who goes away: all eight places are free again.
        let mut readers: Vec<_> = (0..8).map(|_| ctl(&[]).spawn().unwrap()).collect();
        let full = || rig.watch(Filter::default(), 1).is_err();
        let wait = |what: &str, so: &mut dyn FnMut() -> bool| {
            let began = Instant::now();
            while !so() {
                assert!(began.elapsed() < Duration::from_secs(30), "{what}");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        wait("eight traces", &mut || {
            // To look takes a place for a moment, in which a reader may be refused.
            for reader in &mut readers {
                if reader.try_wait().unwrap().is_some() {
                    *reader = ctl(&[]).spawn().unwrap();
                }
            }
            full()
        });
        for reader in &mut readers {
            reader.kill().unwrap();
            reader.wait().unwrap();
        }
        wait("room", &mut || !full());
        // A dry run by its addresses.
        let output = ctl(&[
            "--inject",
            "--port",
            "blue-1",
            "--src-mac",
            &text_of(1),
            "--dst-mac",
            &text_of(2),
            "--src-ip",
            "10.0.0.1",
            "--dst-ip",
            "10.0.0.2",
            "--proto",
            "tcp",
        ])
        .output()
        .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("=> sent: to-underlay"), "{text}");
        assert!(
            text.ends_with("nothing was sent, nothing has changed.\n"),
            "{text}"
        );
        rig.stop();
    });
}

fn text_of(n: u8) -> String {
    text(mac(n))
}
