//! Finds libdpdk by pkg-config, generates the bindings, and builds the shim.

use std::env;
use std::path::PathBuf;
use std::process::exit;

fn fail(message: &str) -> ! {
    // Cargo shows a failed build script's stderr, so this is what the user reads.
    eprintln!("\nerror: {message}\n");
    exit(1)
}

/// `rte_eth_from_rings` is a driver's own function. Drivers are loaded at run time, and
/// pkg-config does not name them; this one is linked, and found again by EAL's loader.
fn link_net_ring(dpdk: &pkg_config::Library) {
    if !dpdk.libs.iter().any(|l| l == "rte_net_ring") {
        println!("cargo:rustc-link-lib=rte_net_ring");
    }
}

/// DPDK's comments are Doxygen: rustdoc must neither run nor lint what it takes for examples.
#[derive(Debug)]
struct Comments;

impl bindgen::callbacks::ParseCallbacks for Comments {
    fn process_comment(&self, comment: &str) -> Option<String> {
        Some(format!("```text\n{}\n```", comment.replace("```", "'''")))
    }
}

fn main() {
    for file in ["build.rs", "wrapper.h", "shim.h", "shim.c"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let dpdk = pkg_config::Config::new()
        .atleast_version("22.11")
        .statik(false)
        .probe("libdpdk")
        .unwrap_or_else(|e| {
            fail(&format!(
                "libdpdk (22.11 or newer) was not found by pkg-config.\n\
                 Install it: apt-get install libdpdk-dev pkg-config (or run scripts/setup).\n{e}"
            ))
        });

    let includes: Vec<String> = dpdk
        .include_paths
        .iter()
        .map(|p| format!("-I{}", p.display()))
        .collect();

    let mut shim = cc::Build::new();
    shim.file("shim.c")
        .opt_level(3)
        .includes(&dpdk.include_paths)
        .flag("-Wno-deprecated-declarations");
    let x86_64 = env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64");
    if x86_64 {
        // The floor libdpdk itself is built for; its inline functions need SSE4.2.
        shim.flag("-march=corei7").flag("-mrtm");
    }
    shim.flag("-include")
        .flag("rte_config.h")
        .compile("vswitch_dpdk_shim");
    link_net_ring(&dpdk);

    let floor: &[&str] = if x86_64 { &["-march=corei7"] } else { &[] };

    // bindgen loads libclang at run time and panics without it: ask first, say what to install.
    let bindings = std::panic::catch_unwind(|| {
        bindgen::Builder::default()
            .header("wrapper.h")
            .clang_args(&includes)
            .clang_args(["-include", "rte_config.h"])
            .clang_args(floor)
            .allowlist_function("rte_(eal|intr|eth|pktmbuf|mempool|ring|vhost|thread|lcore|socket|dev|log)_.*")
            .allowlist_function("rte_(strerror|get_tsc_hz|free|malloc_socket|malloc_get_socket_stats|version|vlog|openlog_stream)")
            .allowlist_function("vs_.*")
            .allowlist_type("vs_.*")
            .allowlist_type("rte_(mbuf|mempool|ring|eth|vhost)_?.*")
            .allowlist_var("(RTE_(ETH|MBUF|PKTMBUF|MAX|MEMPOOL|VHOST|LOG|LOGTYPE|RING|VER)|RTE_VHOST_USER|VIRTIO|VHOST|SOCKET_ID|LCORE_ID|RING_F|VS)_.*")
            .opaque_type("rte_(arp|gtp|l2tp|ether|ipv4|ipv6|icmp|macsec|pppoe|mpls|ecpri|geneve|vxlan|gre|igmp|ib|nvgre|sctp|tcp|udp|esp|higig|flow|arp_hdr)_.*hdr.*")
            .parse_callbacks(Box::new(Comments))
            .derive_debug(false)
            .derive_default(true)
            .layout_tests(true)
            .default_enum_style(bindgen::EnumVariation::Consts)
            .prepend_enum_name(false)
            .generate()
    });
    match bindings {
        Ok(Ok(bindings)) => {
            let out = PathBuf::from(env::var("OUT_DIR").unwrap()).join("bindings.rs");
            bindings.write_to_file(out).unwrap();
        }
        Ok(Err(e)) => fail(&format!("bindgen could not read DPDK's headers: {e}")),
        Err(_) => fail(
            "libclang was not found, which bindgen needs to read DPDK's headers.\n\
             Install it: apt-get install libclang-dev clang (or run scripts/setup).",
        ),
    }
}
