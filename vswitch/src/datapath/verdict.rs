//! How a packet ends. Every packet that a worker takes up ends in exactly one verdict, and
//! every drop has one reason; the names are what `vswitchctl show drops` prints.

/// What a verdict does to the worker's books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Left the switch through a port.
    Sent,
    /// Ended here on purpose, without loss to anyone.
    Consumed,
    /// Went to another worker over a ring.
    HandedOut,
    /// Discarded, for the verdict's reason.
    Dropped,
}

macro_rules! verdicts {
    ($( $(#[$doc:meta])* $variant:ident = $class:ident $name:literal : $help:literal, )*) => {
        /// One exhaustive enum of endings.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Verdict { $( #[doc = $help] $(#[$doc])* $variant, )* }

        impl Verdict {
            /// All verdicts, in the order of their discriminants.
            pub const ALL: &[Verdict] = &[ $( Verdict::$variant, )* ];

            /// How many there are.
            pub const COUNT: usize = Verdict::ALL.len();

            /// The stable name that the operator's tools show.
            pub const fn name(self) -> &'static str {
                match self { $( Verdict::$variant => $name, )* }
            }

            /// One line for the operator: what happened.
            pub const fn help(self) -> &'static str {
                match self { $( Verdict::$variant => $help, )* }
            }

            /// The side of the books this verdict is on.
            pub const fn class(self) -> Class {
                match self { $( Verdict::$variant => Class::$class, )* }
            }
        }
    };
}

verdicts! {
    ToTenant = Sent "to-tenant": "delivered to a tenant's vhost port",
    ToUnderlay = Sent "to-underlay": "sent to a peer edge",
    ToVlan = Sent "to-vlan": "sent to a VLAN of a physical port",
    ToKernel = Sent "to-kernel": "given to the host kernel by the exception port",
    FromKernel = Sent "from-kernel": "the host kernel's own traffic, sent to the underlay",
    Keepalive = Consumed "keepalive": "a NAT-keepalive of UDP-encapsulated ESP (RFC 3948, 2.3)",
    Answered = Consumed "answered": "an ARP request or neighbour solicitation, answered here from the mappings",
    HandedOut = HandedOut "handed-out": "passed to the worker that owns the SA or the queue",

    // Any input.
    Malformed = Dropped "malformed": "headers that contradict the packet's length, or no frame at all",
    NotContiguous = Dropped "not-contiguous": "headers spread over buffers that could not be joined",
    HandoffFull = Dropped "handoff-full": "the ring to the owning worker was full",
    BufferExhausted = Dropped "buffer-exhausted": "no packet buffer left for a copy",
    NoRoom = Dropped "no-room": "the packet's buffer has no room for the overlay's headers",
    Stopping = Dropped "stopping": "in a queue or a ring when the switch stopped",

    // From a tenant.
    SpoofedMac = Dropped "spoofed-mac": "source MAC that is not placed on the port",
    SpoofedIp = Dropped "spoofed-ip": "source IP that is not placed on the port",
    SpoofedArp = Dropped "spoofed-arp": "ARP sender that is not placed on the port",
    SpoofedNd = Dropped "spoofed-nd": "neighbour discovery for an address that is not placed on the port",
    LlcFrame = Dropped "llc-frame": "LLC/SNAP or a vendor's VLAN tag, in which some hosts accept IP that is not checked here (CVE-2021-27853)",
    RogueRouter = Dropped "rogue-router": "router advertisement or redirect from a tenant, here or at another edge (RFC 6105)",
    UnexpectedVlan = Dropped "unexpected-vlan": "tagged frame on a port that takes none, or a VLAN nobody attached",
    BumRate = Dropped "bum-rate": "broadcast, unknown unicast or multicast above the port's rate",
    ChecksumOffload = Dropped "checksum-offload": "asked for a checksum the switch never offered to compute",

    // Forwarding.
    NoVn = Dropped "no-vn": "the port or tunnel belongs to no VN any more",
    UnknownUnicast = Dropped "unknown-unicast": "no mapping for the destination, and the VN drops unknown unicast",
    NoReceiver = Dropped "no-receiver": "broadcast or multicast with nobody else in the VN",
    SamePort = Dropped "same-port": "the destination is where the frame came from",
    SplitHorizon = Dropped "split-horizon": "came from a peer and would go to a peer",
    TooBig = Dropped "too-big": "larger than the overlay's MTU (ICMP is sent where it applies)",
    LinkLocalMulticast = Dropped "link-local-group": "a group address that bridges never forward (IEEE 802.1Q 8.6.3)",

    // Towards the underlay.
    NoSa = Dropped "no-sa": "no outbound security association for the VN and peer",
    NoKey = Dropped "no-key": "waited for a key that was not agreed on in time, or behind too many others that wait",
    SaHardLimit = Dropped "sa-hard-limit": "the SA reached its hard limit and sends no more",
    SaReservation = Dropped "sa-reservation": "no sequence numbers reserved yet for the manual key",
    NoNeighbour = Dropped "no-neighbour": "no route or no neighbour for the peer's address",
    UnderlayTxFull = Dropped "underlay-tx-full": "the underlay port's transmit queue refused it",

    // From the underlay.
    NotForUs = Dropped "not-for-us": "addressed to another station",
    UnderlayFragment = Dropped "underlay-fragment": "fragment of a tunnel packet",
    UnderlayDestination = Dropped "underlay-destination": "tunnel packet for an address that is no endpoint of ours",
    UnknownSpi = Dropped "unknown-spi": "ESP with an SPI nobody here knows",
    SpiReserved = Dropped "spi-reserved": "ESP with an SPI of 1 to 255 (RFC 4303, 2.1)",
    EspTruncated = Dropped "esp-truncated": "ESP packet too short or not aligned",
    WrongPeer = Dropped "wrong-peer": "the SA belongs to another peer address",
    IvMismatch = Dropped "iv-mismatch": "the IV is not the packet's sequence number",
    Replayed = Dropped "replayed": "sequence number seen before",
    TooOld = Dropped "too-old": "sequence number left of the replay window",
    AuthFailed = Dropped "auth-failed": "the integrity check value is wrong",
    EspPadding = Dropped "esp-padding": "padding is not the 1, 2, 3 of RFC 4303, or its length is wrong",
    EspNextHeader = Dropped "esp-next-header": "the protected payload is not UDP",
    TunnelMalformed = Dropped "tunnel-malformed": "the tunnel header is wrong or of another encapsulation",
    GeneveCritical = Dropped "geneve-critical": "unknown critical Geneve option (RFC 8926, 3.5.1)",
    TfcPadding = Dropped "tfc-padding": "traffic flow padding that is not zero",
    WrongVni = Dropped "wrong-vni": "the VNI is not the SA's",
    SpoofedRemote = Dropped "spoofed-remote": "inner source that is not mapped to the sending peer",
    SpoofedRemoteIp = Dropped "spoofed-remote-ip": "inner IP source, ARP sender or neighbour advertisement that the source MAC's mapping does not list, or that another MAC's does",
    ClearForProtected = Dropped "clear-for-protected": "clear tunnel packet for a protected VN",
    ClearUnknownVni = Dropped "clear-unknown-vni": "clear tunnel packet for a VN that is not here",
    ClearUnknownPeer = Dropped "clear-unknown-peer": "clear tunnel packet from an address that is no edge of the VN",
    UdpChecksum = Dropped "udp-checksum": "wrong UDP checksum on a clear tunnel packet",

    // Towards ports and the kernel.
    TenantDown = Dropped "tenant-down": "the tenant's port is not connected",
    TenantTxFull = Dropped "tenant-tx-full": "the tenant's receive ring was full",
    VlanTxFull = Dropped "vlan-tx-full": "the physical port's transmit queue refused it",
    KernelRate = Dropped "kernel-rate": "above the rate of what the host kernel is given",
    KernelTxFull = Dropped "kernel-tx-full": "the exception port refused it",
    NoExceptionPort = Dropped "no-exception-port": "not overlay traffic, and the port has no tap",
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_discriminants_dense() {
        let names: HashSet<_> = Verdict::ALL.iter().map(|v| v.name()).collect();
        assert_eq!(names.len(), Verdict::COUNT);
        for (i, v) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*v as usize, i);
            assert!(v.help().len() > 10);
        }
    }
}
