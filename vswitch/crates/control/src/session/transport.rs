//! QUIC as it is set up here: one stream in each connection, small windows, no migration, nothing
//! given away that a later connection could use.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, IdleTimeout, ServerConfig, TransportConfig, ValidationTokenConfig, VarInt,
};

use rustix::net::sockopt;

use super::limits::{Limits, Liveness};

/// Until a round trip is measured: that of a data centre and some, so that a lost first packet is sent
/// again after a third of a second and not a whole one (RFC 9002, section 6.2.2 advises for the
/// Internet).
pub(crate) const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Room for bursts of first packets from many at once; more than this the kernel may not give.
const SOCKET_BUFFER: usize = 4 << 20;

/// First packets waiting for us to judge them; what is above it is dropped unseen.
const MAX_INCOMING: usize = 1024;

/// Bytes that may follow the first packet of somebody not judged yet.
const INCOMING_BUFFER: u64 = 8 * 1024;

/// A limit in the limits that QUIC cannot express.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an idle timeout of {0:?} is too long")]
pub struct BadLimit(Duration);

/// For connections that open (`streams` 0) or take (`streams` 1) the stream.
pub(super) fn transport(
    limits: &Limits,
    liveness: Liveness,
    streams: u32,
) -> Result<Arc<TransportConfig>, BadLimit> {
    let Liveness {
        idle_timeout,
        keepalive,
    } = liveness;
    let idle = IdleTimeout::try_from(idle_timeout).map_err(|_| BadLimit(idle_timeout))?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(limits.receive_window))
        .receive_window(VarInt::from_u32(limits.receive_window))
        .send_window(u64::from(limits.send_window))
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(keepalive))
        .initial_rtt(INITIAL_RTT)
        // It shows the round trip time to whoever looks.
        .allow_spin(false);
    Ok(Arc::new(transport))
}

/// The accepting side; its `crypto` is replaced for each handshake.
pub(super) fn server(
    tls: rustls::ServerConfig,
    transport: Arc<TransportConfig>,
    limits: &Limits,
) -> Option<ServerConfig> {
    let mut config = ServerConfig::with_crypto(server_crypto(tls)?);
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    config
        .transport_config(transport)
        .validation_token_config(tokens)
        .migration(false)
        .retry_token_lifetime(2 * limits.handshake_timeout)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFER * MAX_INCOMING as u64);
    Some(config)
}

/// `None` if TLS_AES_128_GCM_SHA256 were missing, which protects first packets (RFC 9001, section 5.2).
pub(super) fn server_crypto(tls: rustls::ServerConfig) -> Option<Arc<QuicServerConfig>> {
    QuicServerConfig::try_from(tls).ok().map(Arc::new)
}

/// The dialling side.
pub(super) fn client(
    tls: rustls::ClientConfig,
    transport: Arc<TransportConfig>,
) -> Option<ClientConfig> {
    let crypto = QuicClientConfig::try_from(tls).ok()?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport);
    Some(config)
}

/// A socket with a large buffer, as far as the kernel allows.
pub(super) fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    // Beyond the system's limit if we may (CAP_NET_ADMIN), or up to it.
    let set = sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER));
    if let Err(error) = set {
        tracing::debug!(%error, "the socket keeps its buffer");
    }
    Ok(socket)
}
