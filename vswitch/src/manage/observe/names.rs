//! Names for the numbers in a record.

use vswitch_vn::{Destination, PortId, TunnelId, VnId};

use crate::datapath::observe::Place;
use crate::manage::config::{AllowedIps, Config};
use std::net::IpAddr;
use vswitch_net::MacAddr;

/// The names of a configuration's things, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Of tenants' ports and VLANs.
    pub ports: Vec<String>,
    /// Of underlay ports.
    pub underlays: Vec<String>,
    /// Of devices with VLANs.
    pub devices: Vec<String>,
    /// Of virtual networks.
    pub vns: Vec<String>,
    /// Of tunnels: VN and peer.
    pub tunnels: Vec<(String, String)>,
    /// By port: the addresses placed on it; no IP address means any.
    pub placed: Vec<Vec<(MacAddr, Vec<IpAddr>)>>,
}

impl Names {
    /// Of a configuration, with its tunnels' VNs and peers.
    pub fn new(config: &Config, tunnels: Vec<(String, String)>) -> Self {
        let placed = config.ports.iter().map(|port| {
            let addresses = port.addresses.iter().map(|address| {
                let ips = match &address.ips {
                    AllowedIps::Any => Vec::new(),
                    AllowedIps::Only(ips) => ips.clone(),
                };
                (address.mac, ips)
            });
            addresses.collect()
        });
        Names {
            ports: config.ports.iter().map(|p| p.name.clone()).collect(),
            underlays: config
                .underlay
                .ports
                .iter()
                .map(|p| p.name.clone())
                .collect(),
            devices: config.devices.iter().map(|d| d.name.clone()).collect(),
            vns: config.vns.iter().map(|vn| vn.name.clone()).collect(),
            tunnels,
            placed: placed.collect(),
        }
    }

    /// Of a port.
    pub fn port(&self, id: PortId) -> &str {
        self.ports.get(id.index()).map_or("?", String::as_str)
    }

    /// Of a virtual network.
    pub fn vn(&self, id: VnId) -> &str {
        self.vns.get(id.index()).map_or("?", String::as_str)
    }

    /// Of the edge at the other end of a tunnel.
    pub fn peer(&self, id: TunnelId) -> &str {
        self.tunnels
            .get(id.index())
            .map_or("?", |(_, peer)| peer.as_str())
    }

    /// Of an underlay port.
    pub fn underlay(&self, id: u16) -> &str {
        self.underlays
            .get(usize::from(id))
            .map_or("?", String::as_str)
    }

    /// For people: `port web1`, `underlay0`, `the host kernel beside underlay0`, …
    pub fn place(&self, place: Place) -> String {
        match place {
            Place::Port(port) => format!("port {}", self.port(port)),
            Place::Underlay(port) => format!("underlay port {}", self.underlay(port)),
            Place::Tap(port) => format!("the host kernel beside {}", self.underlay(port)),
            Place::Trunk(device) => {
                let device = self.devices.get(usize::from(device));
                format!("device {}", device.map_or("?", String::as_str))
            }
            Place::Worker(worker) => format!("worker {worker}"),
            Place::Switch => "the switch itself".to_owned(),
        }
    }

    /// For people: `port web1` or `tunnel to edge-b`.
    pub fn destination(&self, destination: Destination) -> String {
        match destination {
            Destination::Port(port) => format!("port {}", self.port(port)),
            Destination::Tunnel(tunnel) => format!("tunnel to {}", self.peer(tunnel)),
        }
    }

    /// A port's place by name: of tenants and VLANs, or of the underlay.
    pub fn find_port(&self, name: &str) -> Option<Place> {
        let at = |names: &[String]| names.iter().position(|n| n == name);
        at(&self.ports)
            .map(|i| Place::Port(PortId(i as u16)))
            .or_else(|| at(&self.underlays).map(|i| Place::Underlay(i as u16)))
    }

    /// A virtual network by name.
    pub fn find_vn(&self, name: &str) -> Option<VnId> {
        let at = self.vns.iter().position(|n| n == name)?;
        Some(VnId(at as u16))
    }
}
