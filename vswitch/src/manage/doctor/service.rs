//! The state directory, and the systemd unit's limits.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::finding::Finding;
use super::host::Host;
use super::needs::Needs;

pub(super) fn state(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "state-dir";
    let directory = &needs.state_dir;
    let shown = directory.display();
    let mount = host.mount_of(directory);
    if let Some(mount) = mount
        .as_ref()
        .filter(|m| matches!(m.kind.as_str(), "tmpfs" | "ramfs"))
    {
        let found = format!("{shown} is on {}, in memory", mount.kind);
        if !needs.manual_keys {
            return out.push(Finding::ok(NAME, format!("{found}; no manual key sends")));
        }
        let why = "after a restart of the host sequence numbers would repeat: every manual outbound key must be replaced then";
        let finding = Finding::fail(NAME, found, why);
        return out.push(finding.mend("# state-dir: on a disk, such as /var/lib/vswitch"));
    }
    if mount.is_some_and(|mount| mount.options.iter().any(|option| option == "ro")) {
        let finding = Finding::fail(
            NAME,
            format!("{shown} is on a read-only file system"),
            "reservations of sequence numbers are written there",
        );
        return out.push(
            finding.mend("# state-dir: elsewhere, or remount it (the service: ReadWritePaths=)"),
        );
    }
    match fs::metadata(host.path(directory)) {
        Err(_) => out.push(Finding::ok(NAME, format!("{shown} is made at the start"))),
        Ok(meta) => {
            let us = host.uid().unwrap_or(0);
            let (mode, owner) = (meta.mode() & 0o7777, meta.uid());
            if mode & 0o022 != 0 || (owner != us && owner != 0) {
                let found = format!("{shown} has mode {mode:o} and owner {owner}");
                let why = "whoever can write there can make nonces repeat";
                let finding = Finding::fail(NAME, found, why);
                return out.push(finding.mend(format!("chown {us} {shown} && chmod 700 {shown}")));
            }
            out.push(Finding::ok(
                NAME,
                format!("{shown}, mode {mode:o}, on a disk"),
            ));
        }
    }
}

/// Where units are, the first that has one winning (systemd.unit(5)).
const UNITS: [&str; 3] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
];

/// The unit with its drop-ins, later lines overriding earlier ones.
fn unit(host: &Host) -> Option<Vec<(String, String)>> {
    let mut text = UNITS
        .iter()
        .find_map(|at| host.text(format!("{at}/vswitchd.service")))?;
    for at in UNITS.iter().rev() {
        let directory = format!("{at}/vswitchd.service.d");
        for name in host
            .names(&directory)
            .iter()
            .filter(|name| name.ends_with(".conf"))
        {
            text.push('\n');
            text.push_str(&host.text(format!("{directory}/{name}")).unwrap_or_default());
        }
    }
    let settings = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'));
    let settings = settings.filter_map(|line| line.split_once('='));
    Some(
        settings
            .map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()))
            .collect(),
    )
}

pub(super) fn limits(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "service";
    let Some(settings) = unit(host) else {
        return out.push(Finding::ok(NAME, "no vswitchd.service is installed"));
    };
    let last = |key: &str| {
        settings
            .iter()
            .rev()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    };
    let any = |key: &str, wanted: &str| {
        let mut values = settings.iter().filter(|(k, _)| k == key).map(|(_, v)| v);
        values.any(|value| {
            value
                .split_whitespace()
                .any(|word| word.trim_start_matches('-') == wanted)
        })
    };
    let mut good = true;
    let mut drop_in = |found: String, why: &str, line: &str| {
        good = false;
        let finding = Finding::warn(NAME, found, why);
        out.push(finding.mend(format!(
            "mkdir -p /etc/systemd/system/vswitchd.service.d && printf '[Service]\\n{line}\\n' > /etc/systemd/system/vswitchd.service.d/doctor.conf && systemctl daemon-reload"
        )));
    };
    if last("LimitMEMLOCK") != Some("infinity") {
        let found = format!(
            "LimitMEMLOCK={}",
            last("LimitMEMLOCK").unwrap_or("(the system's)")
        );
        drop_in(
            found,
            "hugepages, guests' memory and keys are locked",
            "LimitMEMLOCK=infinity",
        );
    }
    let files = last("LimitNOFILE").map(|n| n.split(':').next().unwrap_or(n));
    let enough = files.is_some_and(|n| n == "infinity" || n.parse().is_ok_and(|n: u64| n >= 65536));
    if !enough {
        let found = format!("LimitNOFILE={}", files.unwrap_or("(the system's)"));
        drop_in(
            found,
            "each vhost port needs descriptors for memory and queues",
            "LimitNOFILE=65536",
        );
    }
    let xdp = needs.interfaces().any(|(.., xdp)| xdp);
    if xdp
        && last("CapabilityBoundingSet").is_some()
        && !any("CapabilityBoundingSet", "CAP_SYS_ADMIN")
    {
        let line = "CapabilityBoundingSet=CAP_SYS_ADMIN\\nSystemCallFilter=bpf";
        drop_in(
            "af_xdp without CAP_SYS_ADMIN".to_owned(),
            "its program cannot be loaded",
            line,
        );
    }
    if last("ProtectSystem") == Some("strict") {
        for socket in &needs.sockets {
            let Some(directory) = socket.path.parent().and_then(Path::to_str) else {
                continue;
            };
            let inside = directory == "/run/vswitch" || directory.starts_with("/run/vswitch/");
            if socket.ours && !inside && !any("ReadWritePaths", directory) {
                let found = format!("{directory} is read-only to the service");
                let line = format!("ReadWritePaths={directory}");
                drop_in(found, "a socket is to be made there", &line);
            }
        }
    }
    if good {
        out.push(Finding::ok(NAME, "the unit's limits suffice"));
    }
}
