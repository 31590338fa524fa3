//! Two switches and the underlay between them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::daemon::{Daemon, api_socket, file_prefix};

/// Protection of the network, by name: that of the VN, and the SAs' algorithm.
pub const PROTECTIONS: [(&str, &str); 2] = [("none", "none"), ("aes-128-gcm", "confidential")];

/// MTU of the underlay: what a tenant's 1500 bytes need.
const UNDERLAY_MTU: u16 = 1600;

/// Host 1 is `a`, 2 is `b`.
pub const fn name(host: u8) -> &'static str {
    match host {
        1 => "a",
        _ => "b",
    }
}

/// MAC address of a host's tenant.
pub fn tenant_mac(host: u8) -> String {
    format!("52:54:00:00:00:0{host}")
}

/// The vhost socket of a host's tenant; the tenant makes it.
pub fn tenant_socket(dir: &Path, host: u8) -> PathBuf {
    dir.join(format!("tenant-{}.sock", name(host)))
}

fn configuration(
    dir: &Path,
    host: u8,
    core: usize,
    protection: (&str, &str),
) -> anyhow::Result<String> {
    let d = dir.display();
    let (us, other, peer) = (name(host), name(3 - host), 3 - host);
    let role = if host == 1 { "server" } else { "client" };
    let (algorithm, of_vn) = protection;
    let prefix = file_prefix(us);
    let mut yaml = format!(
        "nve: {{name: {us}}}\n\
         eal: {{memory: no-huge, memory-mb: 256, file-prefix: {prefix}}}\n\
         workers: {{cores: [{core}], idle: yield}}\n\
         mempool: {{mbufs: 16384, data-room: 2048}}\n\
         state-dir: {d}/state-{us}\n\
         api: {{socket: {}}}\n\
         underlay:\n  ports:\n    - name: up0\n      \
         device: \"net_memif0,role={role},id=0,socket={d}/memif.sock,socket-abstract=no,mac=02:00:00:00:00:0{host}\"\n      \
         mtu: {UNDERLAY_MTU}\n      addresses: [192.0.2.{host}/24]\n      \
         neighbours: [{{address: 192.0.2.{peer}, mac: \"02:00:00:00:00:0{peer}\"}}]\n\
         peers: [{{name: {other}, addresses: [192.0.2.{peer}]}}]\n\
         vns:\n  - name: blue\n    vni: 1001\n    protection: {of_vn}\n    edges: [{other}]\n    \
         mappings: [{{mac: \"{}\", peer: {other}}}]\n\
         ports:\n  - name: vm\n    vn: blue\n    vhost: {{socket: {}, mode: client, peer-uid: {}}}\n    \
         addresses: [{{mac: \"{}\"}}]\n",
        api_socket(dir, us).display(),
        tenant_mac(peer),
        tenant_socket(dir, host).display(),
        rustix::process::geteuid().as_raw(),
        tenant_mac(host),
    );
    if of_vn != "none" {
        yaml.push_str("security-associations:\n");
        for (direction, from) in [("outbound", host), ("inbound", peer)] {
            let file = dir.join(format!("{from}.key"));
            fresh_key(&file)?;
            yaml.push_str(&format!(
                "  - {{vn: blue, peer: {other}, direction: {direction}, spi: {}, \
                 algorithm: {algorithm}, key-file: {}}}\n",
                0x1000 + u32::from(from),
                file.display()
            ));
        }
    }
    Ok(yaml)
}

/// Makes a key for AES-128 if it is not there yet: a key is used in one life of a switch only.
pub fn fresh_key(file: &Path) -> anyhow::Result<()> {
    if file.exists() {
        return Ok(());
    }
    let mut key = [0; 20];
    rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())?;
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(file, digits)?;
    fs::set_permissions(file, Permissions::from_mode(0o600))?;
    Ok(())
}

/// Starts host 1 or 2 with its worker on `core`, and waits until it answers.
pub fn start(
    dir: &Path,
    host: u8,
    core: usize,
    protection: (&str, &str),
) -> anyhow::Result<Daemon> {
    let yaml = configuration(dir, host, core, protection)?;
    Daemon::start(dir, name(host), &yaml)
}
