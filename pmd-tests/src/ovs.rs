//! Open vSwitch with DPDK in a namespace, with a database, sockets and logs of its own. It is
//! unpacked by `scripts/ovs` and not installed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::guest::scripts;
use crate::lab::{DIR, sh, wait_for};

/// A running Open vSwitch. The laboratory's end is its end too.
pub struct Ovs {
    namespace: &'static str,
}

fn root() -> PathBuf {
    env::var_os("VSWITCH_OVS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ovs"),
        PathBuf::from,
    )
}

/// Unpacks it if it is not there yet: outside the laboratory, which has no way to Debian's
/// mirrors.
pub fn unpack() {
    let output = Command::new(scripts().join("ovs"))
        .output()
        .expect("a script");
    assert!(output.status.success(), "scripts/ovs: {output:?}");
}

impl Ovs {
    /// Starts it on an interface of a namespace, through DPDK's af_packet: bridge `underlay`
    /// joins the interface and the namespace's own stack.
    pub fn start(namespace: &'static str, interface: &str) -> Ovs {
        let (ovs, usr) = (Ovs { namespace }, root().join("usr"));
        let db = format!("{DIR}/conf.db");
        let schema = usr.join("share/openvswitch/vswitch.ovsschema");
        ovs.run(
            "bin/ovsdb-tool",
            &["create", &db, &schema.to_string_lossy()],
        );
        let socket = format!("--remote=punix:{DIR}/db.sock");
        let background = ["--no-chdir", "--pidfile", "--detach", "--log-file"];
        ovs.run(
            "sbin/ovsdb-server",
            &[&[&*db, &socket][..], &background].concat(),
        );
        ovs.vsctl("--no-wait init");
        // pmd-maxsleep: its polling thread may sleep, which leaves the core to a guest.
        // --legacy-mem: OVS would add --in-memory, which excludes --no-huge.
        ovs.vsctl(
            "--no-wait set Open_vSwitch . other_config:dpdk-init=true \
             other_config:dpdk-lcore-mask=0x1 other_config:pmd-cpu-mask=0x2 other_config:pmd-maxsleep=200 \
             other_config:dpdk-extra=\"--no-huge --legacy-mem -m 512 --no-pci --file-prefix=ovs\"",
        );
        let socket = format!("unix:{DIR}/db.sock");
        let daemon = "lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
        ovs.run(daemon, &[&[&*socket][..], &background].concat());
        assert_eq!(
            ovs.vsctl("get Open_vSwitch . dpdk_initialized").trim(),
            "true"
        );
        ovs.vsctl(&format!(
            "add-br underlay -- set bridge underlay datapath_type=netdev -- \
             add-port underlay up0 -- set interface up0 type=dpdk \
             options:dpdk-devargs=net_af_packet0,iface={interface}"
        ));
        let error = ovs.vsctl("get interface up0 error");
        assert_eq!(error.trim(), "[]", "{}", ovs.log());
        ovs
    }

    fn output(&self, program: &str, args: &[&str]) -> Output {
        let program = root().join("usr").join(program);
        assert!(program.exists(), "{} (scripts/ovs)", program.display());
        // Its threads poll: beside others on few cores they come last.
        Command::new("nice")
            .args(["-n", "5", "ip", "netns", "exec", self.namespace])
            .arg(program)
            .args(args)
            .env("OVS_RUNDIR", DIR)
            .env("OVS_LOGDIR", DIR)
            .env("OVS_DBDIR", DIR)
            .env("OVS_SYSCONFDIR", DIR)
            .stdin(Stdio::null())
            .output()
            .expect("a program of Open vSwitch")
    }

    #[track_caller]
    fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.output(program, args);
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "{program} {args:?}: {out}{err}{}",
            self.log()
        );
        out
    }

    /// Runs `ovs-vsctl` with these words; quotes as in a shell.
    #[track_caller]
    pub fn vsctl(&self, words: &str) -> String {
        let words = sh(&format!("printf '%s\\n' {words}"));
        let mut args = vec!["--timeout=30"];
        args.extend(words.lines());
        self.run("bin/ovs-vsctl", &args)
    }

    /// A tenant: the bridge of this name, with a tunnel port whose interface has these
    /// settings, and tenant 2 on the bridge's own port.
    pub fn tenant(&self, name: &str, tunnel: &str, addresses: [&str; 2]) {
        self.vsctl(&format!(
            "add-br {name} -- set bridge {name} datapath_type=netdev \
             'other-config:hwaddr=\"52:54:00:00:00:02\"' -- \
             add-port {name} tunnel-{name} -- set interface tunnel-{name} {tunnel}"
        ));
        let ns = self.namespace;
        sh(&format!(
            "ip -n {ns} link set {name} mtu 1380 up
             ip -n {ns} address add {}/24 dev {name}
             ip -n {ns} address add {}/64 dev {name} nodad",
            addresses[0], addresses[1]
        ));
        let error = self.vsctl(&format!("get interface tunnel-{name} error"));
        assert_eq!(error.trim(), "[]", "{}", self.log());
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(format!("{DIR}/ovs-vswitchd-dpdk.log")).unwrap_or_default()
    }

    /// Ends it as its scripts would.
    pub fn stop(self) {
        for daemon in ["ovs-vswitchd-dpdk", "ovsdb-server"] {
            let file = format!("{DIR}/{daemon}.pid");
            let pid = std::fs::read_to_string(&file).expect("pid file");
            sh(&format!("kill {}", pid.trim()));
            wait_for("its end", 20, || (!Path::new(&file).exists()).then_some(()));
        }
    }
}

impl Drop for Ovs {
    /// Tells what it knew, when a test fails half-way.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for question in [
            "tnl/ports/show -v",
            "tnl/neigh/show",
            "ovs/route/show",
            "dpctl/dump-flows",
        ] {
            let words: Vec<&str> = question.split(' ').collect();
            let output = self.output("bin/ovs-appctl", &words);
            let said = String::from_utf8_lossy(&output.stdout);
            eprintln!("--- ovs-appctl {question}\n{said}");
        }
    }
}
