//! The few questions this room asks the kernel over rtnetlink(7), as typed calls.
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, route::RouteType};
use tokio::time::{Instant, timeout_at};

use super::error::HostError;
use super::resolve::{self, KernelRoute, Neighbour};
use super::types::{IpNet, MacAddress};

/// How long the kernel may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection to the kernel; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    handle: rtnetlink::Handle,
}

/// What matters of a network interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) mac: Option<MacAddress>,
    pub(super) mtu: Option<u32>,
    pub(super) up: bool,
}

impl Kernel {
    /// Opens a connection in the calling thread's network namespace. Needs a tokio runtime.
    pub(super) fn connect() -> Result<Self, HostError> {
        let (connection, handle, _unsolicited) =
            rtnetlink::new_connection().map_err(HostError::Socket)?;
        // Ends by itself with the last handle.
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Sends one request and gathers its answers. `BrokenPipe` means the connection is gone.
    async fn ask(&self, message: Message, flags: u16) -> io::Result<Vec<Message>> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        let mut answers = self
            .handle
            .clone()
            .request(request)
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let mut found = Vec::new();
        // An answer lost to a full receive buffer must not stop us for good.
        let deadline = Instant::now() + PATIENCE;
        while let Some(answer) = timeout_at(deadline, answers.next()).await? {
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => found.push(message),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Overrun(_) => {
                    return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// The interface of that name, if there is one.
    pub(super) async fn link(&self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let answers = match self.ask(Message::GetLink(message), 0).await {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
            other => other?,
        };
        Ok(answers.into_iter().find_map(|answer| match answer {
            Message::NewLink(link) => Some(parse_link(&link)),
            _ => None,
        }))
    }

    /// Changes an interface: its MAC and MTU where given, and up or down where given.
    pub(super) async fn set_link(
        &self,
        index: u32,
        mac: Option<MacAddress>,
        mtu: Option<u32>,
        up: Option<bool>,
    ) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        if let Some(up) = up {
            message.header.change_mask = LinkFlags::Up;
            if up {
                message.header.flags = LinkFlags::Up;
            }
        }
        message
            .attributes
            .extend(mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        message.attributes.extend(mtu.map(LinkAttribute::Mtu));
        self.ask(Message::SetLink(message), NLM_F_ACK).await?;
        Ok(())
    }

    /// The addresses on an interface.
    pub(super) async fn addresses(&self, index: u32) -> io::Result<Vec<IpNet>> {
        let answers = self
            .ask(Message::GetAddress(AddressMessage::default()), NLM_F_DUMP)
            .await?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                Message::NewAddress(address) if address.header.index == index => {
                    parse_address(&address)
                }
                _ => None,
            })
            .collect())
    }

    /// Puts an address on an interface; IPv6 without duplicate address detection (RFC 4862
    /// section 5.4), which would keep it unusable for a second and more.
    pub(super) async fn add_address(&self, index: u32, net: IpNet) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = net.prefix();
        message.header.family = family(net.address());
        let attributes = &mut message.attributes;
        attributes.push(AddressAttribute::Address(net.address()));
        attributes.push(AddressAttribute::Local(net.address()));
        match net.address() {
            IpAddr::V4(address) => {
                // Point-to-point prefixes have no broadcast address (RFC 3021).
                if net.prefix() < 31 {
                    let host = u32::MAX >> net.prefix();
                    let broadcast = (address.to_bits() | host).into();
                    attributes.push(AddressAttribute::Broadcast(broadcast));
                }
            }
            IpAddr::V6(_) => {
                message.header.flags = AddressHeaderFlags::Nodad;
                attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
        }
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.ask(Message::NewAddress(message), flags).await?;
        Ok(())
    }

    /// The kernel's whole route for a destination, every next hop of it; `None` where there is
    /// no unicast route.
    pub(super) async fn route(&self, destination: IpAddr) -> io::Result<Option<KernelRoute>> {
        // Without FIB_MATCH the kernel answers with the one next hop it would pick.
        let whole = self.route_with(destination, RouteFlags::FibMatch).await?;
        match whole {
            // nexthop_compat_mode=0 hides the next hops of a nexthop object from the route.
            Some(route) if route.hops.is_empty() => {
                let prefix = route.prefix;
                let one = self.route_with(destination, RouteFlags::empty()).await?;
                Ok(one.map(|one| KernelRoute { prefix, ..one }))
            }
            other => Ok(other),
        }
    }

    async fn route_with(
        &self,
        destination: IpAddr,
        flags: RouteFlags,
    ) -> io::Result<Option<KernelRoute>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
        message.header.flags = flags;
        message
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::from(destination)));
        match self.ask(Message::GetRoute(message), 0).await {
            Ok(answers) => Ok(answers.iter().find_map(|answer| match answer {
                Message::NewRoute(route) => resolve::kernel_route(route),
                _ => None,
            })),
            // Unreachable, prohibit, blackhole and "nothing matches" come as errors.
            Err(error) => match error.raw_os_error() {
                Some(
                    libc::ENETUNREACH
                    | libc::EHOSTUNREACH
                    | libc::EACCES
                    | libc::EINVAL
                    | libc::ESRCH
                    | libc::ENOENT
                    | libc::EAFNOSUPPORT
                    | libc::EOPNOTSUPP,
                ) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// The neighbour table of one interface, both families.
    pub(super) async fn neighbours(&self, index: u32) -> io::Result<HashMap<IpAddr, Neighbour>> {
        let mut message = NeighbourMessage::default();
        // The kernel filters by NDA_IFINDEX; a kernel that does not is filtered below.
        message.attributes.push(NeighbourAttribute::IfIndex(index));
        let answers = self.ask(Message::GetNeighbour(message), NLM_F_DUMP).await?;
        Ok(answers
            .iter()
            .filter_map(|answer| match answer {
                Message::NewNeighbour(entry) if entry.header.ifindex == index => {
                    resolve::neighbour(entry)
                }
                _ => None,
            })
            .collect())
    }

    /// Has the kernel resolve (or confirm) a neighbour, as if it had a packet for it.
    pub(super) async fn use_neighbour(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut message = neighbour_message(index, address);
        message.header.flags = NeighbourFlags::Use;
        message.header.state = NeighbourState::None;
        let flags = NLM_F_ACK | NLM_F_CREATE;
        self.ask(Message::NewNeighbour(message), flags).await?;
        Ok(())
    }

    /// Makes a permanent neighbour entry.
    pub(super) async fn set_neighbour(
        &self,
        index: u32,
        address: IpAddr,
        mac: MacAddress,
    ) -> io::Result<()> {
        let mut message = neighbour_message(index, address);
        message.header.state = NeighbourState::Permanent;
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.ask(Message::NewNeighbour(message), flags).await?;
        Ok(())
    }
}

fn neighbour_message(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.kind = RouteType::Unspec;
    let destination = NeighbourAddress::from(address);
    message
        .attributes
        .push(NeighbourAttribute::Destination(destination));
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn parse_link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        mac: None,
        mtu: None,
        up: message.header.flags.contains(LinkFlags::Up),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = Some(*mtu),
            _ => {}
        }
    }
    link
}

fn parse_address(message: &AddressMessage) -> Option<IpNet> {
    let mut own = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => own = Some(*address),
            // On point-to-point links this is the other end, so Local goes first.
            AddressAttribute::Address(address) => own = own.or(Some(*address)),
            _ => {}
        }
    }
    IpNet::new(own?, message.header.prefix_len)
}
