//! Keys that are given away on purpose: who asks for which, why not, and the table from which
//! Wireshark decrypts.
//!
//! Nothing here decides; `edge::exports` does. Text with keys in it is zeroized when dropped
//! and never grows, since a buffer that grows leaves copies behind.

use std::fmt::{self, Write};
use std::net::IpAddr;

use vswitch_sa::{Algorithm, Spi};
use zeroize::Zeroizing;

use super::config::ManualKey;

/// The process at the other end of the API's socket (`SO_PEERCRED`, unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its number, where the kernel says it.
    pub pid: Option<i32>,
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}", self.uid)?;
        self.pid.map_or(Ok(()), |pid| write!(f, ", process {pid}"))
    }
}

/// Which keys; all if nothing is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySelection {
    /// Those of this VN.
    pub vn: Option<String>,
    /// Those shared with this peer.
    pub peer: Option<String>,
}

impl fmt::Display for KeySelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = "all";
        let (vn, peer) = (self.vn.as_deref(), self.peer.as_deref());
        write!(f, "VN {}, peer {}", vn.unwrap_or(all), peer.unwrap_or(all))
    }
}

/// Why no key is given away.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The configuration does not allow it.
    #[error(
        "this edge gives no keys away: set `allow-key-export: true` in {0} and run `vswitchctl \
         reload`, and back to false afterwards. Every exported key counts as compromised until it is \
         replaced"
    )]
    NotAllowed(String),
    /// The caller may use the API, but not see keys.
    #[error(
        "user {uid} may not see keys: only root and the daemon's user ({daemon}) may, who can \
         read the key files as well"
    )]
    NotYou {
        /// Who asked.
        uid: u32,
        /// The daemon's effective user.
        daemon: u32,
    },
    /// No such network.
    #[error("no VN is called `{0}`: see `vswitchctl show vns`")]
    UnknownVn(String),
    /// No such peer.
    #[error("no peer is called `{0}`: see `vswitchctl show tunnels`")]
    UnknownPeer(String),
    /// Nothing to decrypt.
    #[error(
        "no SA of {0} encrypts anything: with `integrity` and `none` packets can be read without \
         a key (see `vswitchctl show sas`)"
    )]
    Nothing(KeySelection),
    /// The keys could not be marked as given away, so they are not.
    #[error("no key was exported, since that could not be recorded: {0}")]
    Mark(#[source] super::edge::KeyError),
}

/// One association with its key, as Wireshark needs to know it.
pub struct SaKey<'a> {
    /// SPI.
    pub spi: Spi,
    /// Sender's tunnel endpoint.
    pub src: IpAddr,
    /// Receiver's tunnel endpoint, of the same family.
    pub dst: IpAddr,
    /// Key and salt.
    pub key: &'a ManualKey,
}

/// Keys as text.
pub struct KeyTable(Zeroizing<String>);

/// Above the longest row: two IPv6 addresses and a 256-bit key.
const ROW: usize = 256;

const HEAD: &str = "# ESP keys for Wireshark: its table `esp_sa`. Secret; the keys in it are to be \
                    replaced.\n";

impl KeyTable {
    /// Wireshark's table `esp_sa` (its user-accessible table format, 7 columns as of 4.0: protocol,
    /// addresses, SPI, encryption, key and salt, authentication, its key). Keys of algorithms
    /// that do not encrypt are left out: Wireshark has no use for them.
    pub fn wireshark(keys: &[SaKey<'_>]) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(HEAD.len() + keys.len() * ROW));
        text.push_str(HEAD);
        for sa in keys.iter().filter(|sa| encrypts(sa.key.algorithm())) {
            let family = if sa.src.is_ipv4() { "IPv4" } else { "IPv6" };
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "\"{family}\",\"{}\",\"{}\",\"{}\",\"AES-GCM with 16 octet ICV [RFC4106]\",\"0x",
                sa.src, sa.dst, sa.spi
            );
            sa.key.reveal(|bytes| {
                let mut digits = Zeroizing::new([0; 2 * MAX_KEY_AND_SALT]);
                let digits = digits.get_mut(..2 * bytes.len()).unwrap_or_default();
                if hex::encode_to_slice(bytes, digits).is_ok()
                    && let Ok(digits) = str::from_utf8(digits)
                {
                    text.push_str(digits);
                }
            });
            text.push_str("\",\"NULL\",\"\"\n");
        }
        KeyTable(text)
    }
}

impl AsRef<[u8]> for KeyTable {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyTable").finish_non_exhaustive()
    }
}

/// A 256-bit key and four bytes of salt.
const MAX_KEY_AND_SALT: usize = 36;

/// Whether packets under the algorithm cannot be read without the key.
pub fn encrypts(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::Aes128Gcm | Algorithm::Aes256Gcm)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use vswitch_sa::SecretBytes;

    use super::*;

    fn key(algorithm: Algorithm, len: u8) -> ManualKey {
        let bytes = SecretBytes::new(usize::from(len), |bytes| {
            bytes.iter_mut().zip(1..).for_each(|(b, n)| *b = n);
        })
        .unwrap();
        ManualKey::new(algorithm, bytes, Path::new("k")).unwrap()
    }

    #[test]
    fn rows_are_as_wireshark_takes_them_and_none_outgrows_its_room() {
        let gcm = key(Algorithm::Aes256Gcm, 36);
        let gmac = key(Algorithm::Aes128Gmac, 20);
        let spi = |n| Spi::new(n).unwrap();
        let long = |n| IpAddr::from([0x2001, 0xdb80, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, n]);
        let sa = |n, src, dst, key| SaKey {
            spi: spi(n),
            src,
            dst,
            key,
        };
        let v4 = |n| IpAddr::from([192, 0, 2, n]);
        let keys = [
            sa(0x1001, v4(1), v4(2), &gcm),
            sa(0x1002, v4(1), v4(2), &gmac),
            sa(u32::MAX, long(0xfff0), long(0xfff1), &gcm),
        ];
        let table = KeyTable::wireshark(&keys);
        assert!(table.0.len() <= HEAD.len() + keys.len() * ROW);
        assert_eq!(table.0.capacity(), HEAD.len() + keys.len() * ROW);
        let lines: Vec<&str> = table.0.lines().collect();
        let digits = hex::encode((1..=36).collect::<Vec<u8>>());
        let row = |family: &str, src: &str, dst: &str, spi: &str| {
            format!(
                "\"{family}\",\"{src}\",\"{dst}\",\"{spi}\",\"AES-GCM with 16 octet ICV \
                 [RFC4106]\",\"0x{digits}\",\"NULL\",\"\""
            )
        };
        assert!(lines[0].starts_with('#'));
        assert_eq!(
            lines[1..],
            [
                row("IPv4", "192.0.2.1", "192.0.2.2", "0x00001001"),
                row(
                    "IPv6",
                    "2001:db80:ffff:ffff:ffff:ffff:ffff:fff0",
                    "2001:db80:ffff:ffff:ffff:ffff:ffff:fff1",
                    "0xffffffff"
                ),
            ]
        );
        assert!(!format!("{table:?}").contains(&digits[..6]));
    }
}
