//! The kernel interface under a DPDK port (af_packet, af_xdp): its name, its offloads, and the
//! helper programs that are called for it.
use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;
use tracing::warn;

use super::error::HostError;

/// Drivers that share an interface with the kernel.
const DRIVERS: [&str; 4] = ["net_af_packet", "eth_af_packet", "net_af_xdp", "eth_af_xdp"];

/// Longest interface name: `IFNAMSIZ` without the terminator.
const NAME_LIMIT: usize = 15;

/// How long a helper program may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The kernel interface that a DPDK device string drives beside the kernel
/// (`net_af_packet0,iface=vh0` → `vh0`); `None` for other devices.
pub fn parse_iface(devargs: &str) -> Option<String> {
    let mut parts = devargs.split(',').map(str::trim);
    let name = parts.next()?;
    if !DRIVERS.iter().any(|driver| name.starts_with(driver)) {
        return None;
    }
    parts
        .find_map(|part| part.strip_prefix("iface="))
        .filter(|iface| !iface.is_empty())
        .map(str::to_owned)
}

/// Refuses what the kernel would not take as an interface name, and what would be special to
/// the programs that it is handed to.
pub(super) fn check_name(interface: &str) -> Result<(), HostError> {
    let good = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '"' | '\\' | ':' | '*');
    let fits = (1..=NAME_LIMIT).contains(&interface.len());
    let special = matches!(interface, "." | "..") || interface.starts_with('-');
    match fits && !special && interface.chars().all(good) {
        true => Ok(()),
        false => Err(HostError::BadInterfaceName(interface.to_owned())),
    }
}

/// Switches off what makes the kernel hand over packets that never were on the wire: partial
/// checksums and segments larger than the MTU. (On a veth, its other end needs the same.)
/// What cannot be switched off is logged and left.
pub async fn disable_offloads(interface: &str) -> Result<(), HostError> {
    check_name(interface)?;
    for feature in ["tx", "tso", "gso", "gro", "lro"] {
        let args = ["-K", interface, feature, "off"];
        match run("ethtool", "ethtool", interface, &args, "").await {
            Ok(()) => {}
            Err(error @ HostError::ProgramMissing { .. }) => {
                warn!(interface, %error, "offloads stay on: TCP through this port may stall");
                return Ok(());
            }
            Err(error) => warn!(interface, feature, %error, "an offload stays on"),
        }
    }
    Ok(())
}

/// Runs a helper program to its end with `input` on its standard input.
pub(super) async fn run(
    program: &'static str,
    package: &'static str,
    interface: &str,
    args: &[&str],
    input: &str,
) -> Result<(), HostError> {
    let failed = |message: String| HostError::ProgramFailed {
        program,
        interface: interface.to_owned(),
        message,
    };
    let conversation = async {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that fails early closes its end; its exit status says why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    match timeout(PATIENCE, conversation).await {
        Err(_) => Err(failed(format!("no answer within {PATIENCE:?}"))),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            Err(HostError::ProgramMissing { program, package })
        }
        Ok(Err(error)) => Err(failed(error.to_string())),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_shared_drivers_are_found() {
        let found = |text| parse_iface(text);
        assert_eq!(found("net_af_packet0,iface=vh0").as_deref(), Some("vh0"));
        assert_eq!(
            found("net_af_packet_up,qpairs=2,iface=eth1,blocksz=4096").as_deref(),
            Some("eth1")
        );
        assert_eq!(
            found("net_af_xdp3,start_queue=0,iface=ens3f0").as_deref(),
            Some("ens3f0")
        );
        assert_eq!(found("net_tap0,iface=t0"), None);
        assert_eq!(found("0000:01:00.0"), None);
        assert_eq!(found("net_af_packet0"), None);
        assert_eq!(found("net_af_packet0,iface="), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn names_that_would_be_special_are_refused() {
        for good in ["vh0", "eth0.100", "br-lan", "a@b"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "..",
            "a b",
            "a/b",
            "a\"b",
            "-K",
            "sixteen-letters0",
            "ü",
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_missing_program_names_its_package_and_a_failing_one_speaks() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let missing = run("no-such-nft", "nftables", "vh0", &[], "").await;
            let text = missing.unwrap_err().to_string();
            assert!(text.contains("apt-get install nftables"), "{text}");
            let script = "read line; echo \"no $line\" >&2; exit 3";
            let failed = run("sh", "dash", "vh0", &["-c", script], "rule\n").await;
            let text = failed.unwrap_err().to_string();
            assert!(text.contains("vh0: no rule"), "{text}");
        });
    }
}
