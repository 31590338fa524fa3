//! "Something changed": the kernel's announcements of routes, rules, neighbours, links,
//! addresses and nexthop objects.
//!
//! Only the fact is used, so the messages are not decoded: a socket of its own, whose overflow
//! (ENOBUFS) is one more change. The questions are asked again in any case.
use std::io;

use futures_util::FutureExt;
use rtnetlink::MulticastGroup as Group;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use super::error::HostError;

const GROUPS: [Group; 9] = [
    Group::Link,
    Group::Neigh,
    Group::Ipv4Ifaddr,
    Group::Ipv6Ifaddr,
    Group::Ipv4Route,
    Group::Ipv6Route,
    Group::Ipv4Rule,
    Group::Ipv6Rule,
    // Deleting a nexthop object withdraws its IPv4 routes without a word about them.
    Group::Nexthop,
];

/// Bytes; a routing daemon's bursts are large.
const RECEIVE_BUFFER: usize = 1 << 20;

/// `struct nlmsghdr` and, behind it, `struct ndmsg` up to and with its interface index.
const HEADER: usize = 16;
const NEIGHBOUR_LINK: std::ops::Range<usize> = HEADER + 4..HEADER + 8;

/// The listening socket.
pub(super) struct Monitor {
    socket: TokioSocket,
}

impl Monitor {
    /// Listens in the calling thread's network namespace. Needs a tokio runtime.
    pub(super) fn open() -> Result<Self, HostError> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
            for group in GROUPS {
                socket.socket_ref().add_membership(group as u32)?;
            }
            // Limited by net.core.rmem_max; the default does, too.
            let _ = socket.socket_ref().set_rx_buf_sz(RECEIVE_BUFFER);
            Ok(Self { socket })
        };
        open().map_err(HostError::Socket)
    }

    /// Waits for a change that may concern paths over the interfaces `links`. Cancel-safe.
    pub(super) async fn changed(&self, links: &[u32]) -> io::Result<()> {
        loop {
            match self.socket.recv_from_full().await {
                Ok((datagram, _)) if !concerns(&datagram, links) => {}
                Ok(_) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Forgets the changes that have already arrived.
    pub(super) fn drain(&self) {
        while let Some(Ok(_)) = self.socket.recv_from_full().now_or_never() {}
    }
}

/// Whether any message of the datagram is more than a neighbour event of a foreign interface.
fn concerns(datagram: &[u8], links: &[u32]) -> bool {
    let mut rest = datagram;
    while let Some((length, kind)) = header(rest) {
        let is_neighbour = matches!(
            kind,
            libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH | libc::RTM_GETNEIGH
        );
        let link = rest
            .get(NEIGHBOUR_LINK)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_ne_bytes);
        if !is_neighbour || link.is_none_or(|link| links.contains(&link)) {
            return true;
        }
        // Messages are aligned to four bytes.
        match rest.get(length.next_multiple_of(4)..) {
            Some(next) => rest = next,
            None => break,
        }
    }
    false
}

/// Length and type of the message at the front.
fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?);
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let length = usize::try_from(length).ok()?;
    (HEADER..=bytes.len())
        .contains(&length)
        .then_some((length, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, link: u32) -> Vec<u8> {
        let mut bytes = vec![0; 28];
        bytes[0..4].copy_from_slice(&28_u32.to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[20..24].copy_from_slice(&link.to_ne_bytes());
        bytes
    }

    #[test]
    fn neighbours_of_other_links_do_not_concern_us() {
        let foreign = message(libc::RTM_NEWNEIGH, 7);
        assert!(!concerns(&foreign, &[3]));
        assert!(concerns(&foreign, &[7]));
        assert!(concerns(&message(libc::RTM_NEWROUTE, 0), &[3]));
        let both = [foreign, message(libc::RTM_DELROUTE, 0)].concat();
        assert!(concerns(&both, &[3]));
    }

    #[test]
    fn malformed_datagrams_end_the_walk() {
        assert!(!concerns(&[], &[]));
        assert!(!concerns(&[0; 15], &[]));
        let mut short = message(libc::RTM_NEWROUTE, 0);
        short[0..4].copy_from_slice(&3_u32.to_ne_bytes());
        assert!(!concerns(&short, &[]));
        short[0..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(!concerns(&short, &[]));
    }
}
