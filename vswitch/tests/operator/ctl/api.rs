//! The API and its socket.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::Value;
use vswitch::manage::api::{Api, ApiError, ClientError, Section, get};

use super::switch::{BACKLOG, STATUS, Switch, runtime};

#[test]
fn every_route_gives_its_part() {
    let switch = Switch::start();
    let all: Value = serde_json::from_str(STATUS).unwrap();
    for section in Section::ALL {
        let body = runtime().block_on(get(switch.socket(), section)).unwrap();
        let got: Value = serde_json::from_slice(&body).unwrap();
        let expected = match section.route().trim_start_matches("/v1/") {
            "status" => &all,
            part => &all[part],
        };
        assert!(!expected.is_null());
        assert_eq!(&got, expected, "{section:?}");
    }
}

#[test]
fn curl_can_ask() {
    if std::process::Command::new("curl")
        .arg("-V")
        .output()
        .is_err()
    {
        eprintln!("skipped: no curl");
        return;
    }
    let switch = Switch::start();
    let (body, code) = switch.curl(&[], "/v1/nve");
    assert_eq!(code, "200 application/json");
    let nve: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(nve["name"], "nve-a");

    let (body, code) = switch.curl(&[], "/v1/nonsense");
    assert_eq!(code, "404 application/json");
    let error: Value = serde_json::from_str(&body).unwrap();
    let message = error["error"].as_str().unwrap();
    for section in Section::ALL {
        assert!(message.contains(section.route()), "{message}");
    }

    let (body, code) = switch.curl(&["-X", "DELETE"], "/v1/sas");
    assert_eq!(code, "405 application/json");
    assert!(body.contains("DELETE"), "{body}");
}

/// What the switch says with its 503.
fn unavailable(switch: &Switch) -> String {
    match runtime().block_on(get(switch.socket(), Section::Status)) {
        Err(ClientError::Status { status, message }) if status.as_u16() == 503 => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_switch_that_is_silent_is_not_waited_for() {
    let (ended, wait) = channel::<()>();
    let (report, reported) = channel();
    let switch = Switch::controlled(move |requests| {
        let request = requests.recv().unwrap();
        // Until the test is over.
        let _ = wait.recv();
        report.send(request.is_abandoned()).unwrap();
    });
    let asked = Instant::now();
    let body = unavailable(&switch);
    assert!(asked.elapsed() >= Duration::from_secs(2));
    assert!(body.contains("did not answer in 2 s"), "{body}");
    drop(ended);
    assert!(reported.recv().unwrap());
}

#[test]
fn a_busy_or_ended_control_loop_is_said() {
    let (done, wait) = channel::<()>();
    let busy = Switch::controlled(move |_requests| {
        let _ = wait.recv();
    });
    let _waiting: Vec<UnixStream> = (0..BACKLOG)
        .map(|_| {
            let mut stream = UnixStream::connect(busy.socket()).unwrap();
            stream
                .write_all(b"GET /v1/nve HTTP/1.1\r\nhost: x\r\n\r\n")
                .unwrap();
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    let body = unavailable(&busy);
    assert!(body.contains("busy"), "{body}");
    drop(done);

    let ended = Switch::controlled(drop);
    std::thread::sleep(Duration::from_millis(50));
    let body = unavailable(&ended);
    assert!(body.contains("stopping"), "{body}");

    let unanswering = Switch::controlled(|requests| requests.into_iter().for_each(drop));
    let body = unavailable(&unanswering);
    assert!(body.contains("stopping"), "{body}");
}

#[test]
fn the_socket_is_for_its_group_and_goes_at_the_end() {
    let mut switch = Switch::start();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(switch.socket()), 0o660);
    assert_eq!(mode(&switch.directory().join("run")), 0o755);
    // Nothing is left of how it was made.
    let names = || {
        fs::read_dir(switch.directory().join("run"))
            .unwrap()
            .count()
    };
    assert_eq!(names(), 1);
    switch.stop().unwrap();
    assert!(!switch.socket().exists());
}

#[test]
fn a_live_socket_is_left_alone_and_a_dead_one_replaced() {
    let switch = Switch::start();
    let refused = runtime().block_on(Api::bind(switch.socket()));
    assert!(matches!(refused, Err(ApiError::InUse(_))), "{refused:?}");
    assert!(switch.shown(&["show", "nve"]).contains("nve-a"));

    let dead = switch.directory().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    assert!(dead.exists());
    let api = runtime().block_on(Api::bind(&dead)).unwrap();
    UnixStream::connect(&dead).unwrap();
    drop(api);
    assert!(!dead.exists());

    let file = switch.directory().join("precious");
    fs::write(&file, "data").unwrap();
    let refused = runtime().block_on(Api::bind(&file));
    assert!(matches!(refused, Err(ApiError::NotASocket(_))));
    assert_eq!(fs::read_to_string(&file).unwrap(), "data");
}

#[test]
fn of_many_that_start_together_one_gets_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    drop(UnixListener::bind(&path).unwrap());
    // All of one process: they have one name for their staging, so the lock must hold.
    let bound: Vec<_> = std::thread::scope(|scope| {
        let starters: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let runtime = runtime();
                    let api = runtime.block_on(Api::bind(&path));
                    (runtime, api)
                })
            })
            .collect();
        starters.into_iter().map(|s| s.join().unwrap()).collect()
    });
    let winners = bound.iter().filter(|(_, api)| api.is_ok()).count();
    assert_eq!(winners, 1);
    for (_, api) in &bound {
        assert!(matches!(api, Ok(_) | Err(ApiError::InUse(_))), "{api:?}");
    }
}

#[test]
fn half_a_request_does_not_keep_the_switch_from_ending() {
    let mut switch = Switch::start();
    let mut idler = UnixStream::connect(switch.socket()).unwrap();
    idler.write_all(b"GET /v1/status HTTP/1.1\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let told = Instant::now();
    switch.stop().unwrap();
    assert!(told.elapsed() < Duration::from_secs(4));
    // And the connection ends with it.
    let mut rest = Vec::new();
    idler
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    idler.read_to_end(&mut rest).unwrap();
}
