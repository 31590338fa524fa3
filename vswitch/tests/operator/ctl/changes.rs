//! Changes as an operator sees them: `docs/changes.md` has what `vswitchctl` prints, and the
//! answers are what `docs/openapi.yaml` describes. The control loop behind the API is made up;
//! the real one is tested in `pmd-tests`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tempfile::TempDir;
use tokio::sync::oneshot;
use vswitch::manage::api::{Answer, Api, Configurator, Desk, StatusRequest, Unavailable};
use vswitch::manage::change::{Applied, Diff, How, Order, Refused, Revision, Running, Who};
use vswitch::manage::config::Config;
use vswitch::manage::edge::RecordedError;

use super::switch::{runtime, status, stderr};

const RUNNING: &str = r#"
nve: {name: nve-a}
state-dir: /var/lib/vswitch
underlay:
  ports: [{name: uplink, device: "0000:01:00.0", addresses: ["192.0.2.1/24"], tap: vsw0}]
peers: [{name: nve-b, addresses: [192.0.2.2]}]
vns:
  - name: blue
    vni: 5001
    edges: [nve-b]
    mappings: [{mac: "52:54:00:00:00:09", ips: [10.0.0.9], peer: nve-b}]
ports:
  - name: web-1
    vn: blue
    vhost: {socket: /run/vswitch/web-1.sock}
    addresses: [{mac: "52:54:00:00:00:01", ips: [10.0.0.1]}]
security-associations:
  - {vn: blue, peer: nve-b, direction: outbound, spi: 0x1001, algorithm: aes-256-gcm, key-file: keys/1.key}
  - {vn: blue, peer: nve-b, direction: inbound, spi: 0x2001, algorithm: aes-256-gcm, key-file: keys/2.key}
"#;

/// A control loop that takes every change that needs no restart.
struct Control {
    running: Arc<Mutex<Arc<Running>>>,
    former: Arc<Mutex<Vec<Config>>>,
}

impl Control {
    fn new(config: Config) -> Self {
        let revision = Revision {
            number: 1,
            time: 1_790_000_000,
            how: How::Start,
            of: None,
            who: None,
            file: PathBuf::from("/etc/vswitch/nve.yaml"),
            changes: 0,
        };
        let running = Running {
            revision: revision.clone(),
            config: Arc::new(config.clone()),
            history: vec![revision],
        };
        Control {
            running: Arc::new(Mutex::new(Arc::new(running))),
            former: Arc::new(Mutex::new(vec![config])),
        }
    }

    fn carry_out(&self, order: Order) -> Result<Applied, Refused> {
        let mut running = self.running.lock().unwrap();
        let diff = Diff::between(&running.config, &order.config);
        let number = running.revision.number;
        assert_eq!(
            order.diff.as_ref(),
            Some(&diff),
            "what was shown is sent along"
        );
        if let Some(shown) = order.revision.filter(|shown| *shown != number) {
            let running = number;
            return Err(Refused::Stale { shown, running });
        }
        if diff.restarts().next().is_some() {
            return Err(Refused::Restart(diff));
        }
        let mut applied = Applied {
            revision: number,
            dry_run: order.dry_run,
            diff,
        };
        if applied.diff.is_empty() || order.dry_run {
            return Ok(applied);
        }
        let who = order.who.expect("the kernel says who");
        assert_eq!(who.uid, rustix::process::geteuid().as_raw());
        assert!(who.pid.is_some());
        applied.revision += 1;
        let revision = Revision {
            number: number + 1,
            time: running.revision.time + 61,
            how: order.how,
            of: order.of,
            who: Some(Who {
                uid: 0,
                pid: Some(4711),
            }),
            file: PathBuf::from("/etc/vswitch/new.yaml"),
            changes: applied.diff.entries.len() as u64,
        };
        let mut history = running.history.clone();
        history.push(revision.clone());
        self.former.lock().unwrap().push(order.config.clone());
        *running = Arc::new(Running {
            revision,
            config: Arc::new(order.config),
            history,
        });
        Ok(applied)
    }
}

impl Configurator for Control {
    fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running.lock().unwrap())
    }

    fn recorded(&self, number: Option<u64>) -> Result<(u64, Config), RecordedError> {
        let running = self.running();
        let before = running.revision.number.checked_sub(1).filter(|n| *n > 0);
        let number = number.or(before).ok_or(RecordedError::None)?;
        let former = self.former.lock().unwrap();
        let config = former.get(number as usize - 1);
        Ok((number, config.ok_or(RecordedError::NoSuch(number))?.clone()))
    }

    fn change(&self, order: Order, answer: Answer) -> Result<(), Unavailable> {
        answer(self.carry_out(order));
        Ok(())
    }
}

/// A switch that takes changes. Stops when dropped.
pub struct Changing {
    pub directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Changing {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path();
        fs::create_dir(dir.join("keys")).unwrap();
        for n in 1..=3_u8 {
            let file = dir.join(format!("keys/{n}.key"));
            fs::write(&file, format!("{n:02x}").repeat(36)).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let startup = dir.join("nve.yaml");
        fs::write(&startup, RUNNING).unwrap();
        let new = RUNNING
            .replace(
                "    addresses: [{mac: \"52:54:00:00:00:01\", ips: [10.0.0.1]}]",
                "    bum-rate: 500\n    addresses: [{mac: \"52:54:00:00:00:01\", ips: [10.0.0.1, \
                 10.0.0.7]}]",
            )
            .replace("spi: 0x1001", "spi: 0x1002")
            .replace("keys/1.key", "keys/3.key")
            .replace(
                "ports:\n  - name: web-1",
                "  - {name: green, vni: 5002, protection: none, edges: [nve-b]}\nports:\n  - name: \
                 web-1",
            );
        fs::write(dir.join("new.yaml"), new).unwrap();
        let more = RUNNING.replace(
            "nve: {name: nve-a}",
            "nve: {name: nve-a}\nworkers: {cores: [2, 3]}",
        );
        fs::write(dir.join("more-workers.yaml"), more).unwrap();
        let control = Control::new(Config::load(&startup).unwrap());
        let desk = Desk::new(control, &startup);
        let socket = dir.join("api.sock");
        let (stop, stopped) = oneshot::channel();
        let (up, is_up) = std::sync::mpsc::sync_channel(1);
        let server = std::thread::spawn(move || {
            runtime().block_on(async {
                let api = Api::bind(&socket).await.unwrap().with_desk(desk);
                up.send(()).unwrap();
                let source = |request: StatusRequest| {
                    request.answer(status());
                    Ok(())
                };
                let shutdown = async {
                    let _ = stopped.await;
                };
                api.serve(source, shutdown).await.unwrap();
            });
        });
        is_up.recv().expect("the API is up");
        Changing {
            directory,
            stop: Some(stop),
            server: Some(server),
        }
    }

    /// `vswitchctl args` in the directory of the files.
    pub fn ctl(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_vswitchctl"))
            .env("VSWITCH_SOCKET", self.directory.path().join("api.sock"))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .args(args)
            .output()
            .unwrap()
    }

    /// What it says, with the directory named as an operator's.
    fn says(&self, args: &[&str]) -> String {
        let output = self.ctl(args);
        let text = String::from_utf8(output.stdout.clone()).unwrap() + &stderr(&output);
        let dir = fs::canonicalize(&self.directory).unwrap();
        text.replace(dir.to_str().unwrap(), "/etc/vswitch")
    }

    fn curl(&self, args: &[&str], path: &str) -> String {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20"])
            .args(args)
            .arg("--unix-socket")
            .arg(self.directory.path().join("api.sock"))
            .arg(format!("http://localhost{path}"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            let ended = server.join();
            assert!(std::thread::panicking() || ended.is_ok());
        }
    }
}

/// The page's commands in its order, on one switch, print what the page has.
#[test]
fn the_page_is_real() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/changes.md");
    let page = fs::read_to_string(path).unwrap();
    let switch = Changing::start();
    let mut seen = Vec::new();
    for block in page.split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").expect("the block ends");
        let Some(rest) = block.strip_prefix("$ vswitchctl ") else {
            continue;
        };
        let (command, output) = rest.split_once('\n').expect("a command is a line");
        let args: Vec<&str> = command.split(' ').collect();
        assert_eq!(
            switch.says(&args),
            output,
            "docs/changes.md: vswitchctl {command}"
        );
        seen.push(args[0].to_owned());
    }
    for command in ["diff", "apply", "rollback", "revisions", "reload"] {
        assert!(seen.iter().any(|s| s == command), "no example of {command}");
    }
}

#[test]
fn every_answer_is_described() {
    let switch = Changing::start();
    let json = ["-H", "Content-Type: application/json", "-d"];
    let post = |path: &str, body: &str| switch.curl(&[&json[..], &[body]].concat(), path);
    let file = switch.directory.path().join("new.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let wanted = serde_json::json!({
        "wanted": {"source": "text", "text": text, "file": file},
    });
    let diff = post("/v1/config/diff", &wanted.to_string());
    let shown: serde_json::Value = serde_json::from_str(&diff).unwrap();
    let mut apply = wanted;
    apply["diff"] = shown["diff"].clone();
    apply["revision"] = shown["revision"].clone();
    let applied = post("/v1/config/apply", &apply.to_string());
    for (route, method, answer) in [
        ("/v1/config/diff", "post", diff),
        ("/v1/config/apply", "post", applied),
        ("/v1/config", "get", switch.curl(&[], "/v1/config")),
        (
            "/v1/config/revisions",
            "get",
            switch.curl(&[], "/v1/config/revisions"),
        ),
    ] {
        let value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"));
        let wrong = super::openapi::wrong(route, method, &value);
        assert!(wrong.is_empty(), "{route}: {wrong:#?}\n{answer}");
    }
    // Again: somebody was faster, which here is the same person.
    let status = ["-w", "\n%{http_code}", json[0], json[1], json[2]];
    let again = switch.curl(
        &[&status[..], &[&apply.to_string()]].concat(),
        "/v1/config/diff",
    );
    assert!(again.ends_with("200"), "{again}");
    for (body, path, code) in [
        (
            r#"{"wanted": {"source": "startup", "x": 1}, "y": 2}"#,
            "/v1/config/diff",
            "422",
        ),
        (
            r#"{"wanted": {"source": "revision", "number": 9}}"#,
            "/v1/config/diff",
            "404",
        ),
        (
            r#"{"wanted": {"source": "text", "text": "vns: 1", "file": "/x"}}"#,
            "/v1/config/diff",
            "422",
        ),
        ("{", "/v1/config/apply", "400"),
    ] {
        let answer = switch.curl(&[&status[..], &[body]].concat(), path);
        let (answer, got) = answer.rsplit_once('\n').unwrap();
        assert_eq!(got, code, "{body}: {answer}");
        let error: serde_json::Value = serde_json::from_str(answer).unwrap();
        assert!(error["error"].is_string(), "{answer}");
    }
    let answer = switch.curl(&["-X", "DELETE", "-w", "\n%{http_code}"], "/v1/config");
    assert!(
        answer.ends_with("405") && answer.contains("DELETE"),
        "{answer}"
    );
}
