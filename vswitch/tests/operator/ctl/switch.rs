//! A switch that has nothing but an API: a plain thread answers, as in the daemon.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;
use tokio::sync::oneshot;
use vswitch::manage::api::{Api, ApiError, Source, StatusRequest, Unavailable};
use vswitch::manage::status::Status;

/// The status that all tests and the documentation's examples are about.
pub const STATUS: &str = include_str!("status.json");

/// How many questions the control loop lets wait.
pub const BACKLOG: usize = 4;

pub fn status() -> Status {
    serde_json::from_str(STATUS).expect("status.json is a Status")
}

/// A running API. Stops when dropped.
pub struct Switch {
    directory: TempDir,
    socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<Result<(), ApiError>>>,
}

impl Switch {
    /// One with the usual status.
    pub fn start() -> Self {
        Self::with(status())
    }

    pub fn with(status: Status) -> Self {
        Self::controlled(move |requests| {
            for request in requests {
                request.answer(status.clone());
            }
        })
    }

    /// One whose control loop is `control`.
    pub fn controlled(control: impl FnOnce(Receiver<StatusRequest>) + Send + 'static) -> Self {
        let (sender, requests) = sync_channel(BACKLOG);
        thread::spawn(move || control(requests));
        Self::of(move |request| match sender.try_send(request) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(Unavailable::Busy),
            Err(TrySendError::Disconnected(_)) => Err(Unavailable::Gone),
        })
    }

    /// One that asks `source`.
    pub fn of(source: impl Source) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("run/api.sock");
        let (stop, stopped) = oneshot::channel();
        let (up, is_up) = sync_channel(1);
        let path = socket.clone();
        let server = thread::spawn(move || {
            runtime().block_on(async {
                let api = Api::bind(&path).await?;
                up.send(()).unwrap();
                let shutdown = async {
                    let _ = stopped.await;
                };
                api.serve(source, shutdown).await
            })
        });
        is_up.recv().expect("the API is up");
        Self {
            directory,
            socket,
            stop: Some(stop),
            server: Some(server),
        }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// `vswitchctl --socket ... args`.
    pub fn ctl(&self, args: &[&str]) -> Output {
        ctl(&self.socket, args)
    }

    /// Standard output of a `vswitchctl` that must succeed and say nothing else.
    pub fn shown(&self, args: &[&str]) -> String {
        let output = self.ctl(args);
        assert_eq!(stderr(&output), "", "{args:?}");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Body of `GET path` by curl, followed by its HTTP status.
    pub fn curl(&self, args: &[&str], path: &str) -> (String, String) {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20"])
            .args(["--write-out", "\n%{http_code} %{content_type}"])
            .args(args)
            .arg("--unix-socket")
            .arg(&self.socket)
            .arg(format!("http://localhost{path}"))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, code) = text.rsplit_once('\n').expect("curl got an answer");
        (body.to_owned(), code.to_owned())
    }

    /// Stops it and says how it ended.
    pub fn stop(&mut self) -> Result<(), ApiError> {
        drop(self.stop.take());
        self.server.take().unwrap().join().unwrap()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if self.server.is_some() {
            let ended = self.stop();
            assert!(thread::panicking() || ended.is_ok(), "{ended:?}");
        }
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

pub fn ctl(socket: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vswitchctl"))
        .env_remove("VSWITCH_SOCKET")
        .arg("--socket")
        .arg(socket)
        .args(args)
        .output()
        .unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
