//! Strangers: first packets from addresses that are not theirs, and what they are answered.

use std::net::UdpSocket;
use std::time::Instant;

use super::*;

/// The first packets of a client that will never go on, each handshake's own.
struct Strangers {
    endpoint: quinn_proto::Endpoint,
    config: ClientConfig,
    to: SocketAddr,
}

impl Strangers {
    fn new(credentials: &Credentials, to: SocketAddr) -> Self {
        let settings = Arc::new(quinn_proto::EndpointConfig::default());
        let endpoint = quinn_proto::Endpoint::new(settings, None, true, None);
        Self {
            endpoint,
            config: raw_config(credentials, None),
            to,
        }
    }

    /// What one handshake begins with: a ClientHello with an ML-KEM key does not fit into one packet.
    fn initials(&mut self) -> Vec<Vec<u8>> {
        let now = Instant::now();
        let config = self.config.clone();
        let (_, mut connection) = self
            .endpoint
            .connect(now, config, self.to, "192.0.2.1")
            .unwrap();
        let (mut packets, mut buffer) = (Vec::new(), Vec::new());
        while let Some(packet) = connection.poll_transmit(now, 1, &mut buffer) {
            packets.push(buffer[..packet.size].to_vec());
            buffer.clear();
        }
        assert!(packets.len() >= 2 && packets.iter().all(|packet| packet.len() >= 1200));
        packets
    }
}

/// Sends from `socket` and says how many bytes came back in `time`, and in how many packets.
async fn answered(
    socket: &UdpSocket,
    packets: &[Vec<u8>],
    to: SocketAddr,
    time: Duration,
) -> (usize, usize) {
    let socket = tokio::net::UdpSocket::from_std(socket.try_clone().unwrap()).unwrap();
    for packet in packets {
        socket.send_to(packet, to).await.unwrap();
    }
    let (mut bytes, mut count, mut buffer) = (0, 0, [0; 2048]);
    let read = async {
        while let Ok((len, _)) = socket.recv_from(&mut buffer).await {
            (bytes, count) = (bytes + len, count + 1);
        }
    };
    let _ = timeout(time, read).await;
    (bytes, count)
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind(LOOPBACK).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

#[tokio::test]
async fn before_an_address_is_proven_less_is_sent_there_than_came_from_it() {
    let lab = Lab::new("lab");
    let (authority, edge) = pair(&lab, |_| ());
    let nve = lab.credentials(Role::Nve, "b");
    let mut strangers = Strangers::new(&nve, address(&authority));
    let packets = strangers.initials();
    let socket = socket();
    let little = Duration::from_millis(500);
    for packet in &packets {
        let one = std::slice::from_ref(packet);
        let (bytes, count) = answered(&socket, one, address(&authority), little).await;
        // One Retry, and it is not sent again.
        assert!(
            count == 1 && bytes < packet.len() / 4,
            "{count} packets, {bytes} bytes"
        );
    }
    let stats = authority.stats();
    let expected = (packets.len() as u64, 0, 0);
    assert_eq!((stats.retries, stats.handshakes, stats.half_open), expected);
    // Whoever is where they say gets in.
    meet(&authority, &edge).await;
    assert_eq!(
        (authority.stats().handshakes, authority.stats().established),
        (1, 1)
    );
}

/// Where Retry is for times of load only, QUIC's own limit is what there is.
#[tokio::test]
async fn without_retry_three_times_as_much_and_a_datagram_is_the_most() {
    let lab = Lab::new("lab");
    let quick = |setup: &mut Setup| {
        setup.limits.retry_above = 1;
        // Before silence ends it.
        setup.limits.handshake_timeout = Duration::from_millis(1000);
    };
    let authority = endpoint(lab.credentials(Role::Ima, "i"), &[Role::Nve], quick);
    let to = address(&authority);
    let mut strangers = Strangers::new(&lab.credentials(Role::Nve, "b"), to);
    let packets = strangers.initials();
    let sent: usize = packets.iter().map(Vec::len).sum();
    // Longer than the handshake may last, with everything that is sent again.
    let first = socket();
    let waiting = answered(&first, &packets, to, Duration::from_secs(3));
    // Another who comes in the meantime finds it under load.
    let second = async {
        until("the first is unfinished", || {
            authority.stats().half_open == 1
        })
        .await;
        let packets = strangers.initials();
        answered(&socket(), &packets[..1], to, Duration::from_millis(500)).await
    };
    let ((bytes, count), (retry, one)) = tokio::join!(waiting, second);
    assert!(
        count > 1 && bytes <= 3 * sent + 1500,
        "{bytes} bytes for {sent}"
    );
    assert!(one == 1 && retry < 300, "{one} packets, {retry} bytes");
    let stats = authority.stats();
    assert_eq!(
        (stats.failed_timeout, stats.retries, stats.half_open),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn above_the_second_limit_nobody_is_answered() {
    let lab = Lab::new("lab");
    let silent = |setup: &mut Setup| setup.limits.max_half_open = 0;
    let authority = endpoint(lab.credentials(Role::Ima, "i"), &[Role::Nve], silent);
    let to = address(&authority);
    let packets = Strangers::new(&lab.credentials(Role::Nve, "b"), to).initials();
    let answer = answered(&socket(), &packets, to, Duration::from_millis(500)).await;
    assert_eq!(answer, (0, 0));
    let stats = authority.stats();
    assert!(
        stats.ignored > 0 && stats.ignored == stats.initials,
        "{stats:?}"
    );
}

#[tokio::test]
async fn packets_that_are_no_handshake_are_answered_with_less_or_nothing() {
    let lab = Lab::new("lab");
    let (authority, _edge) = pair(&lab, |_| ());
    let nve = lab.credentials(Role::Nve, "b");
    let good = Strangers::new(&nve, address(&authority))
        .initials()
        .swap_remove(0);
    let mut version = good.clone();
    version[1..5].copy_from_slice(&[0xba, 0xba, 0xba, 0xba]);
    let mut broken = good.clone();
    broken[1199] ^= 1;
    let short_header = vec![0x40; 60];
    for packet in [
        version,
        broken,
        good[..1199].to_vec(),
        short_header,
        vec![0xff; 1500],
        vec![0; 21],
    ] {
        let one = [packet];
        let time = Duration::from_millis(200);
        let (bytes, _) = answered(&socket(), &one, address(&authority), time).await;
        assert!(bytes < one[0].len(), "{bytes} bytes for {}", one[0].len());
    }
    until("nothing is left of them", || {
        authority.stats().half_open == 0
    })
    .await;
}

#[tokio::test]
async fn one_source_cannot_begin_handshakes_without_end() {
    let lab = Lab::new("lab");
    let authority = endpoint(lab.credentials(Role::Ima, "i"), &[Role::Nve], |setup| {
        setup.limits.per_source = Rate {
            per_second: 0.01,
            burst: 3.0,
        };
    });
    let edge = endpoint(lab.credentials(Role::Nve, "a"), &[], |_| ());
    for _ in 0..3 {
        drop(meet(&authority, &edge).await);
    }
    let error = dial(&edge, &authority, ima()).await.unwrap_err();
    let told = "the peer takes no more handshakes from here now".to_owned();
    assert_eq!(error, DialError::Closed(Closed::Transport(told)));
    assert_eq!(authority.stats().refused_source, 1);
    // Another source is another matter.
    let mut setup = Setup::new(lab.credentials(Role::Nve, "b").fixed(), &[]);
    setup.limits.sessions = 1;
    let other = Endpoint::bind("127.0.0.2:0".parse().unwrap(), setup).unwrap();
    meet(&authority, &other).await;
}

const HALF_OPEN: usize = 10_000;

/// Ten thousand handshakes from as many addresses, none of which goes on, while edges come.
#[tokio::test]
async fn spoofed_handshakes_do_not_keep_real_ones_out() {
    let lab = Lab::new("lab");
    let (authority, _edge) = pair(&lab, |_| ());
    let authority = Arc::new(authority);
    let to = address(&authority);
    let mut strangers = Strangers::new(&lab.credentials(Role::Nve, "b"), to);
    let flood: Vec<Vec<Vec<u8>>> = (0..HALF_OPEN).map(|_| strangers.initials()).collect();
    let edges: Vec<Endpoint> = (0..8)
        .map(|n| endpoint(lab.credentials(Role::Nve, &format!("e{n}")), &[], |_| ()))
        .collect();

    let watched = authority.clone();
    let (progress, mut begun) = tokio::sync::mpsc::channel(1);
    let flooding = std::thread::spawn(move || {
        let (mut sent, mut lost) = (0, 0);
        for (n, packets) in flood.iter().enumerate() {
            let [_, high, middle, low] = u32::try_from(n).unwrap().to_be_bytes();
            let source = Ipv4Addr::new(127, 1 + high, middle, low);
            let Ok(socket) = UdpSocket::bind((source, 0)) else {
                panic!("{source} is not to be had");
            };
            for packet in packets {
                sent += u64::from(socket.send_to(packet, to).is_ok());
            }
            if n == HALF_OPEN / 10 {
                progress.blocking_send(()).unwrap();
            }
            // As fast as it takes them, so that they are seen and not lost in the kernel.
            let begun = Instant::now();
            while n > watched.stats().initials as usize + lost + 256 {
                if begun.elapsed() > Duration::from_millis(100) {
                    lost = n - watched.stats().initials as usize;
                }
                std::thread::yield_now();
            }
        }
        sent
    });

    begun.recv().await.unwrap();
    let mut during = 0;
    let mut sessions = Vec::new();
    for edge in &edges {
        let before = Instant::now();
        let session = dial(edge, &authority, ima()).await;
        let took = before.elapsed();
        let session = session.unwrap_or_else(|error| panic!("{error} {:?}", authority.stats()));
        assert!(took < Duration::from_secs(2), "{took:?}");
        during += usize::from(!flooding.is_finished());
        sessions.push(session);
    }
    assert!(during > 0, "the flood was over before anybody came");
    let sent = tokio::task::spawn_blocking(|| flooding.join()).await;
    let sent = sent.unwrap().unwrap();
    let stats = authority.stats();
    assert!(
        sent as usize >= 2 * HALF_OPEN && stats.initials as usize >= HALF_OPEN,
        "{sent} {stats:?}"
    );
    // Begun were those below the first limit, and the edges; all others were told to prove their address.
    let limits = Limits::default();
    let room = limits.retry_above + edges.len() + 8;
    assert!(stats.half_open as usize <= room, "{stats:?}");
    assert!(stats.retries as usize > HALF_OPEN / 2, "{stats:?}");
    assert_eq!((stats.ignored, stats.sessions), (0, 8), "{stats:?}");
    // And those are given up in time.
    until("nothing is left of them", || {
        authority.stats().half_open == 0
    })
    .await;
}

/// Somebody who is where they say and never goes on: `count` handshakes from one address.
fn idlers(who: &Credentials, from: [u8; 4], to: SocketAddr, count: usize) -> Idlers {
    let quinn = quinn::Endpoint::client((from, 0).into()).unwrap();
    let dial = |_| {
        let connecting = quinn.connect_with(raw_config(who, None), to, "192.0.2.1");
        tokio::spawn(connecting.unwrap())
    };
    Idlers(quinn.clone(), (0..count).map(dial).collect())
}

/// Holds what they have.
struct Idlers(
    quinn::Endpoint,
    Vec<tokio::task::JoinHandle<Result<Connection, quinn::ConnectionError>>>,
);

impl Drop for Idlers {
    fn drop(&mut self) {
        self.1.iter().for_each(tokio::task::JoinHandle::abort);
        self.0.close(0_u32.into(), b"");
    }
}

/// Addresses that are proven, handshakes that are never finished: a source and a network get a few
/// places, all strangers together most of them, and those who were there before get theirs.
#[tokio::test]
async fn proven_strangers_do_not_keep_out_others_or_those_who_are_known() {
    let lab = Lab::new("lab");
    let authority = endpoint(lab.credentials(Role::Ima, "i"), &[Role::Nve], |setup| {
        let limits = &mut setup.limits;
        (limits.max_half_open, limits.kept_for_known) = (24, 8);
        (limits.half_open_per_source, limits.half_open_per_network) = (4, 8);
        limits.handshake_timeout = Duration::from_secs(20);
    });
    let (to, half_open) = (address(&authority), || authority.stats().half_open);
    let at = |name: &str, from: &str| {
        let setup = Setup::new(lab.credentials(Role::Nve, name).fixed(), &[]);
        Endpoint::bind(from.parse().unwrap(), setup).unwrap()
    };
    // Was there before.
    let known = at("known", "127.1.0.77:0");
    drop(meet(&authority, &known).await);

    let idle = lab.credentials(Role::Nve, "idle");
    let settle = || tokio::time::sleep(Duration::from_millis(300));
    let mut held = vec![idlers(&idle, [127, 1, 0, 1], to, 12)];
    until("the source has its places", || half_open() == 4).await;
    settle().await;
    assert_eq!(half_open(), 4);
    assert!(authority.stats().ignored_source >= 8);
    for host in 2..6 {
        held.push(idlers(&idle, [127, 1, 0, host], to, 12));
    }
    until("the network has its places", || half_open() == 8).await;
    settle().await;
    assert_eq!(half_open(), 8);
    // Somebody from elsewhere whom nobody knows.
    let new = at("new", "127.9.0.1:0");
    drop(soon(meet(&authority, &new)).await);
    for network in 2..6 {
        for host in 1..4 {
            held.push(idlers(&idle, [127, network, 0, host], to, 12));
        }
    }
    until("strangers have theirs", || half_open() == 16).await;
    settle().await;
    assert_eq!((half_open(), authority.stats().ignored > 0), (16, true));
    // From the very network that is full.
    let begun = Instant::now();
    for _ in 0..3 {
        drop(soon(meet(&authority, &known)).await);
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{begun:?}");
    // And who is named before it ever came.
    let named = at("named", "127.1.0.78:0");
    authority.known().add([named.local_address().unwrap().ip()]);
    drop(soon(meet(&authority, &named)).await);
    assert_eq!(half_open(), 16);
}
