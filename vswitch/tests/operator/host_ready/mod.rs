//! What an operator meets before the switch runs: a host that is not ready, the doctor, shell
//! completion and manual pages. The programs themselves are started.

mod pages;
mod start;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// A program of the package with arguments; it must end by itself.
fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .output()
        .expect("the program")
}

const VSWITCHD: &str = env!("CARGO_BIN_EXE_vswitchd");
const VSWITCHCTL: &str = env!("CARGO_BIN_EXE_vswitchctl");

/// A configuration in `dir` that would start anywhere, each of `changes` made in its text.
fn configuration(dir: &Path, changes: &[(&str, &str)]) -> String {
    let d = dir.display();
    // Prefixes are the host's, and tests run beside one another.
    let prefix = dir
        .file_name()
        .and_then(|n| n.to_str())
        .expect("a name")
        .replace('.', "");
    let mut text = format!(
        "nve: {{name: a}}\neal: {{memory: no-huge, memory-mb: 96, file-prefix: {prefix}}}\n\
         workers: {{cores: [0], idle: yield}}\nmempool: {{mbufs: 4096, data-room: 2048}}\n\
         state-dir: {d}/state\napi: {{socket: {d}/api.sock}}\nunderlay:\n  ports:\n    \
         - {{name: up0, device: \"net_null0\", mtu: 1500, addresses: [192.0.2.1/24]}}\n\
         vns: [{{name: blue, vni: 1001, protection: none}}]\nports:\n  - name: vm-1\n    \
         vn: blue\n    vhost: {{socket: {d}/vm.sock, mode: server}}\n    \
         addresses: [{{mac: \"52:54:00:00:00:01\"}}]\n"
    );
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let file = dir.join("nve.yaml");
    fs::write(&file, text).expect("configuration");
    file.to_str().expect("text").to_owned()
}
