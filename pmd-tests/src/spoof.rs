//! Handshakes that nobody means to finish, from thousands of addresses whose owners never answer:
//! real first packets of QUIC, each handshake's own, and what comes back to each address.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{ClientConfig, Endpoint, EndpointConfig};
use vswitch_control::identity::{Clock, Credentials, Denied, Expect, Files, Role, tls};

/// Addresses that are looked after at once; the answer is a matter of milliseconds.
const AT_ONCE: usize = 400;

/// What went to the servers and what came back, in bytes of UDP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flood {
    /// Handshakes begun.
    pub handshakes: usize,
    /// Bytes sent.
    pub sent: usize,
    /// Bytes that came back.
    pub answered: usize,
    /// Addresses that were answered.
    pub addresses: usize,
    /// The most that came back to one address, as a share of what it had sent, in percent.
    pub most: usize,
}

/// Begins handshakes.
struct Strangers {
    endpoint: Endpoint,
    config: ClientConfig,
}

impl Strangers {
    /// With the certificate of an edge: its first packets are those of any edge.
    fn new(credentials: &Path) -> Strangers {
        let clock = Clock::system();
        let files = Files::in_directory(credentials);
        let credentials = Credentials::load(&files, Role::Nve, clock.now()).expect("credentials");
        let verifier = credentials.verifier(Expect::Roles(vec![Role::Ima]), &Denied::new());
        let tls = tls::client(&credentials, verifier, &clock).expect("TLS");
        let quic = QuicClientConfig::try_from(tls).expect("QUIC");
        Strangers {
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None),
            config: ClientConfig::new(Arc::new(quic)),
        }
    }

    /// The packets that a handshake begins with.
    fn initials(&mut self, to: SocketAddr) -> Vec<Vec<u8>> {
        let now = Instant::now();
        let connect = self
            .endpoint
            .connect(now, self.config.clone(), to, "192.0.2.1");
        let (_, mut connection) = connect.expect("a connection");
        let (mut packets, mut buffer) = (Vec::new(), Vec::new());
        while let Some(packet) = connection.poll_transmit(now, 1, &mut buffer) {
            packets.push(buffer[..packet.size].to_vec());
            buffer.clear();
        }
        packets
    }
}

/// An address that began a handshake.
struct Source {
    socket: UdpSocket,
    sent: usize,
}

/// From this namespace, to which all of 198.18.0.0/15 (RFC 2544) belongs: as many handshakes with
/// each server, each from an address of its own, spread over some time.
pub fn flood(credentials: &Path, servers: &[SocketAddr], each: u32, over: Duration) -> Flood {
    let mut strangers = Strangers::new(credentials);
    let mut sources: VecDeque<Source> = VecDeque::new();
    let mut flood = Flood::default();
    let began = Instant::now();
    for n in 0..each {
        for (of, server) in (0..).zip(servers) {
            if sources.len() >= AT_ONCE
                && let Some(source) = sources.pop_front()
            {
                flood.end(&source);
            }
            // The same handshake with every server would be one of them anew.
            let packets = strangers.initials(*server);
            let address = Ipv4Addr::from_bits(0xc612_0001 + (of << 16) + n);
            let socket = UdpSocket::bind((address, 0)).expect("an address of ours");
            socket.set_nonblocking(true).expect("a socket");
            let mut source = Source { socket, sent: 0 };
            for packet in packets {
                source.socket.send_to(&packet, server).expect("a datagram");
                source.sent += packet.len();
            }
            flood.handshakes += 1;
            sources.push_back(source);
        }
        std::thread::sleep((over / each * n).saturating_sub(began.elapsed()));
    }
    std::thread::sleep(Duration::from_millis(500));
    for source in sources {
        flood.end(&source);
    }
    flood
}

impl Flood {
    /// Counts what an address sent and got.
    fn end(&mut self, source: &Source) {
        let mut buffer = [0; 2048];
        let mut answered = 0;
        while let Ok(length) = source.socket.recv(&mut buffer) {
            answered += length;
        }
        self.sent += source.sent;
        self.answered += answered;
        self.addresses += usize::from(answered > 0);
        self.most = self.most.max(answered * 100 / source.sent);
    }
}
