//! vhost ports over the real library: tenants come, go and are killed, and nothing leaks.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::vhost_support::{Bridge, Tenant, config, eal, testpmd_is_missing};
use vswitch::dpdk::vhost::{Mode, Refusal, VhostError, VhostSocket};

const NOBODY: u32 = 65534;

#[test]
fn tenants_of_a_server_socket_are_killed_and_come_back() {
    if testpmd_is_missing() {
        return;
    }
    let _one = eal();
    let dir = tempfile::tempdir().unwrap();
    let (left, right) = (dir.path().join("left"), dir.path().join("right"));
    let mut bridge = Bridge::new("server");
    let sockets = [
        bridge.socket(config(&left, Mode::Server, 0)),
        bridge.socket(config(&right, Mode::Server, 1)),
    ];
    assert_eq!(fs::metadata(&left).unwrap().mode() & 0o777, 0o600);

    let mut sink = Tenant::start(dir.path(), &right, "", "rxonly", &[]);
    bridge.up(1);
    sink.say("start");
    for life in 0..3 {
        let mut source = Tenant::start(dir.path(), &left, "", "flowgen", &[]);
        bridge.up(0);
        let device = bridge.ports[0].clone().unwrap();
        assert_eq!(device.queue_pairs(), 2);
        assert!(device.take_rx(0).is_none(), "the worker has it");
        source.say("start");
        bridge.flows_to(1, 20_000);
        assert_eq!(
            device.enabled(),
            [(true, true), (true, true)],
            "life {life}"
        );
        // In the middle of its traffic.
        source.kill();
        bridge.down(0);
    }
    let sent = bridge.counters.sent[1].load(Relaxed);
    bridge.run_until("all arrive", |_| sink.rx_packets() == sent);

    // The receiving side dies while packets are on their way to it.
    let mut source = Tenant::start(dir.path(), &left, "", "flowgen", &[]);
    bridge.up(0);
    source.say("start");
    bridge.flows_to(1, 20_000);
    sink.kill();
    bridge.down(1);
    let mut sink = Tenant::start(dir.path(), &right, "", "rxonly", &[]);
    bridge.up(1);
    sink.say("start");
    bridge.flows_to(1, 20_000);
    assert!(sink.rx_packets() > 0);

    // Sockets go while tenants are connected and traffic flows.
    drop(sockets);
    assert!(!left.exists() && !right.exists());
    drop((source, sink));
    bridge.finish();
}

#[test]
fn a_client_socket_connects_again() {
    if testpmd_is_missing() {
        return;
    }
    let _one = eal();
    let dir = tempfile::tempdir().unwrap();
    let (left, right) = (dir.path().join("left"), dir.path().join("right"));
    let mut bridge = Bridge::new("client");
    let sockets = [
        bridge.socket(config(&left, Mode::Client, 0)),
        bridge.socket(config(&right, Mode::Client, 1)),
    ];
    let mut sink = Tenant::start(dir.path(), &right, ",server=1,packed_vq=1", "rxonly", &[]);
    bridge.up(1);
    assert_ne!(
        bridge.ports[1].as_ref().unwrap().features() & (1 << 34),
        0,
        "packed ring"
    );
    sink.say("start");
    for _ in 0..2 {
        let mut source = Tenant::start(dir.path(), &left, ",server=1", "flowgen", &[]);
        bridge.up(0);
        source.say("start");
        bridge.flows_to(1, 20_000);
        source.kill();
        bridge.down(0);
        fs::remove_file(&left).unwrap();
    }
    let sent = bridge.counters.sent[1].load(Relaxed);
    bridge.run_until("all arrive", |_| sink.rx_packets() == sent);
    drop(sockets);
    drop(sink);
    bridge.finish();
}

#[test]
fn only_the_expected_uid_is_let_in() {
    if testpmd_is_missing() {
        return;
    }
    let _one = eal();
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(
        dir.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o711),
    )
    .unwrap();
    let as_nobody = ["setpriv", "--reuid", "65534", "--clear-groups"];
    let path = dir.path().join("s");
    let mut bridge = Bridge::new("uid");

    // Server: root may open any socket, but is not the tenant.
    let mut server = config(&path, Mode::Server, 0);
    (server.uid, server.permissions, server.peer_uid) = (Some(NOBODY), 0o620, Some(NOBODY));
    let socket = bridge.socket(server);
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o777), (NOBODY, 0o620));
    let mut stranger = UnixStream::connect(&path).unwrap();
    assert_eq!(
        bridge.refusal(),
        (Some(0), Refusal::WrongUid { expected: NOBODY })
    );
    assert_eq!(stranger.read(&mut [0]).unwrap(), 0, "cut off");
    drop(stranger);
    let tenant = Tenant::start(dir.path(), &path, "", "io", &as_nobody);
    bridge.up(0);
    drop(socket);
    bridge.ports[0] = None;
    drop(tenant);

    // Client: whoever listens there must be the tenant.
    let mut client = config(&path, Mode::Client, 0);
    client.peer_uid = Some(NOBODY);
    let stranger = UnixListener::bind(&path).unwrap();
    let socket = bridge.socket(client);
    let started = Instant::now();
    assert_eq!(
        bridge.refusal(),
        (Some(0), Refusal::WrongUid { expected: NOBODY })
    );
    assert_eq!(
        bridge.refusal(),
        (Some(0), Refusal::WrongUid { expected: NOBODY })
    );
    assert!(
        started.elapsed() > Duration::from_secs(3),
        "it is not tried in a loop"
    );
    drop(stranger);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), None).unwrap();
    let tenant = Tenant::start(dir.path(), &path, ",server=1", "io", &as_nobody);
    bridge.up(0);
    drop(socket);
    drop(tenant);
    bridge.finish();
}

/// Requests of the vhost-user protocol: number, flags (version 1), size of the payload.
fn request(number: u32, size: u32) -> Vec<u8> {
    [number, 1, size]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
}

const GET_FEATURES: u32 = 1;
const SET_FEATURES: u32 = 2;

/// The features offered on a connection, and how long the answer took.
fn ask(stream: &mut UnixStream) -> (u64, Duration) {
    let started = Instant::now();
    stream.write_all(&request(GET_FEATURES, 0)).unwrap();
    let mut answer = [0; 20];
    stream.read_exact(&mut answer).unwrap();
    let features = u64::from_le_bytes(answer[12..].try_into().unwrap());
    (features, started.elapsed())
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

#[test]
fn a_hostile_frontend_costs_its_own_port_only() {
    let _one = eal();
    let dir = tempfile::tempdir().unwrap();
    let (bad, good) = (dir.path().join("bad"), dir.path().join("good"));
    let mut bridge = Bridge::new("hostile");
    let sockets = [
        bridge.socket(config(&bad, Mode::Server, 0)),
        bridge.socket(config(&good, Mode::Server, 1)),
    ];
    let mut neighbour = connect(&good);

    // What is offered: checksums, mergeable buffers, several queues, packed rings; no
    // segmentation in either direction.
    let (features, _) = ask(&mut neighbour);
    for offered in [0u32, 15, 17, 22, 28, 32, 34] {
        assert_ne!(features & (1 << offered), 0, "feature {offered}");
    }
    for not_offered in [1u32, 6, 7, 8, 9, 10, 11, 12, 13, 14] {
        assert_eq!(features & (1 << not_offered), 0, "feature {not_offered}");
    }

    // Half a message, then silence.
    let mut silent = connect(&bad);
    silent.write_all(&request(SET_FEATURES, 8)).unwrap();
    sleep(Duration::from_millis(100));
    let (_, waited) = ask(&mut neighbour);
    assert!(
        waited < Duration::from_secs(2),
        "the neighbour waited {waited:?}"
    );
    assert_eq!(silent.read(&mut [0]).unwrap(), 0, "cut off");
    assert_eq!(bridge.refusal().1, Refusal::Garbled);

    // Requests without end, answers never read.
    let mut deaf = connect(&bad);
    deaf.set_nonblocking(true).unwrap();
    let flood = request(GET_FEATURES, 0).repeat(1000);
    let started = Instant::now();
    let end = loop {
        match deaf.write(&flood) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                let (_, waited) = ask(&mut neighbour);
                assert!(
                    waited < Duration::from_secs(2),
                    "the neighbour waited {waited:?}"
                );
            }
            Err(e) => break e.kind(),
        }
        assert!(started.elapsed() < Duration::from_secs(30), "not cut off");
    };
    assert!(
        matches!(end, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
        "{end:?}"
    );
    assert_eq!(bridge.refusal().1, Refusal::NotReading);

    // A second frontend on one socket.
    sleep(Duration::from_millis(1100));
    let mut second = connect(&good);
    assert_eq!(bridge.refusal().1, Refusal::Busy);
    assert_eq!(second.read(&mut [0]).unwrap(), 0);
    drop(neighbour);
    sleep(Duration::from_millis(200));
    ask(&mut connect(&good));
    drop(sockets);
    bridge.finish();
}

#[test]
fn a_socket_that_cannot_be_had_is_an_error() {
    let _one = eal();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let bridge = Bridge::new("errors");
    let sink: vswitch::dpdk::vhost::EventSink = std::sync::Arc::new(|_| {});
    let try_it = |config| VhostSocket::register(config, &bridge.domain, sink.clone());

    let socket = bridge.socket(config(&path, Mode::Server, 0));
    let again = try_it(config(&path, Mode::Server, 1));
    assert!(matches!(again, Err(VhostError::Registered(_))), "{again:?}");
    drop(socket);
    drop(bridge.socket(config(&path, Mode::Server, 0)));

    let mut none = config(&path, Mode::Server, 0);
    none.queues = 0;
    assert!(matches!(
        try_it(none),
        Err(VhostError::Queues { queues: 0 })
    ));
    let long = dir.path().join("x".repeat(120));
    assert!(matches!(
        try_it(config(&long, Mode::Server, 0)),
        Err(VhostError::Path(_))
    ));
    let missing = dir.path().join("missing/s");
    for _ in 0..2 {
        let result = try_it(config(&missing, Mode::Server, 0));
        assert!(matches!(result, Err(VhostError::Io { .. })), "{result:?}");
    }
    bridge.finish();
}
