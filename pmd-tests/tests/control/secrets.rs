//! Core dumps and /proc leave no key behind: daemons that carry traffic are searched for
//! their keys, all of the memory that root can read.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use aes_gcm::aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes_gcm::aes::{Aes128, Aes256, Block};
use pmd_tests::daemon::Daemon;
use pmd_tests::hosts::{Host, VNS};
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{DIR, cable_mac, wait_for};
use pmd_tests::testpmd::{BURST, Testpmd};
use pmd_tests::wire::{Algorithm, Sa};
use rustix::process::{Resource, Rlimit, setrlimit};

/// The key schedule of FIPS 197, section 5.2.
fn round_keys(key: &[u8]) -> Vec<u8> {
    let nk = key.len() / 4;
    let mut words: Vec<[u8; 4]> = key.as_chunks::<4>().0.to_vec();
    let mut constant = 1_u8;
    for i in nk..4 * (nk + 7) {
        let mut word = words[i - 1];
        if i % nk == 0 {
            word.rotate_left(1);
            word = word.map(substitute);
            word[0] ^= constant;
            constant = double(constant);
        } else if nk > 6 && i % nk == 4 {
            word = word.map(substitute);
        }
        let before = words[i - nk];
        words.push(std::array::from_fn(|b| word[b] ^ before[b]));
    }
    words.concat()
}

fn double(a: u8) -> u8 {
    a << 1 ^ if a & 0x80 != 0 { 0x1b } else { 0 }
}

fn product(mut a: u8, mut b: u8) -> u8 {
    let mut sum = 0;
    while b != 0 {
        if b & 1 != 0 {
            sum ^= a;
        }
        (a, b) = (double(a), b >> 1);
    }
    sum
}

/// The S-box, by its definition (section 5.1.1).
fn substitute(byte: u8) -> u8 {
    let inverse = (1..=255).find(|b| product(byte, *b) == 1).unwrap_or(0);
    (1..5).fold(inverse, |s, n| s ^ inverse.rotate_left(n)) ^ 0x63
}

/// What must not be found, with names.
fn secrets(sa: &Sa) -> Vec<(String, Vec<u8>)> {
    let key = &sa.key_and_salt[..sa.key_and_salt.len() - 4];
    let schedule = round_keys(key);
    let mut hash_key = Block::default();
    if key.len() == 16 {
        Aes128::new_from_slice(key)
            .expect("16")
            .encrypt_block(&mut hash_key);
    } else {
        Aes256::new_from_slice(key)
            .expect("32")
            .encrypt_block(&mut hash_key);
    }
    // Times x, reflected: the first power in the table of the wide backends.
    let reflected = u128::from_be_bytes(hash_key.into());
    let carry = (reflected >> 127) * (0xc2 << 120 | 1);
    let power = (reflected << 1 ^ carry).to_le_bytes();
    // Half a key is as bad as a whole one, and is in every copy of it.
    let mut all = vec![
        ("the key".to_owned(), key[..16].to_vec()),
        (
            "its end and the salt".to_owned(),
            sa.key_and_salt[key.len() - 8..].to_vec(),
        ),
        (
            "hexadecimal".to_owned(),
            hex::encode(&key[..16]).into_bytes(),
        ),
        (
            "upper case".to_owned(),
            hex::encode_upper(&key[..16]).into_bytes(),
        ),
        ("the hash key".to_owned(), hash_key.to_vec()),
        ("its first power".to_owned(), power.to_vec()),
    ];
    let after = schedule[key.len()..].chunks_exact(16).take(3);
    all.extend(
        after
            .enumerate()
            .map(|(i, k)| (format!("round key {}", i + 1), k.to_vec())),
    );
    all.iter_mut()
        .for_each(|(name, _)| *name = format!("{name} of {:#x}", sa.spi));
    all
}

/// Mappings that are locked and in no core dump.
fn kept_out_of_dumps(pid: u32) -> HashSet<String> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("smaps");
    let mut range = String::new();
    let mut kept_out = HashSet::new();
    for line in smaps.lines() {
        let first = line.split(' ').next().unwrap_or_default();
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let has = |flag| flags.split(' ').any(|f| f == flag);
            if has("lo") && has("dd") {
                kept_out.insert(std::mem::take(&mut range));
            }
        } else if first.contains('-') {
            range = first.to_owned();
        }
    }
    kept_out
}

/// In which mappings of a process each is found, and how much was read. Without secret memory
/// root reads locked memory too, and what counts is all else.
fn search(
    pid: u32,
    wanted: &[(String, Vec<u8>)],
    secretmem: bool,
) -> (HashMap<String, Vec<String>>, u64) {
    const PART: usize = 1 << 20;
    const OVERLAP: usize = 64;
    let mut starts: HashMap<[u8; 4], Vec<usize>> = HashMap::new();
    let mut begins = vec![false; 1 << 16];
    for (i, (_, bytes)) in wanted.iter().enumerate() {
        starts
            .entry(bytes[..4].try_into().expect("4"))
            .or_default()
            .push(i);
        begins[usize::from(u16::from_le_bytes([bytes[0], bytes[1]]))] = true;
    }
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let kept_out = kept_out_of_dumps(pid);
    let memory = File::open(format!("/proc/{pid}/mem")).expect("mem");
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    let mut read = 0;
    let mut buffer = vec![0; PART + OVERLAP];
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').expect("a range");
        let (from, to) = range.split_once('-').expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("hex");
        let (mut at, to) = (number(from), number(to));
        if !rest.starts_with('r') || !secretmem && kept_out.contains(range) {
            continue;
        }
        while at < to {
            let want = (to - at).min(buffer.len() as u64) as usize;
            // Some cannot be read by anybody: devices, and what is secret.
            let Ok(n) = memory.read_at(&mut buffer[..want], at) else {
                at += (want as u64).min(4096);
                continue;
            };
            read += n as u64;
            let part = &buffer[..n];
            if part.iter().any(|b| *b != 0) {
                for (i, pair) in part.windows(4).enumerate() {
                    if !begins[usize::from(u16::from_le_bytes([pair[0], pair[1]]))] {
                        continue;
                    }
                    for which in starts.get(pair).into_iter().flatten() {
                        let (name, bytes) = &wanted[*which];
                        if part[i..].starts_with(bytes) {
                            found.entry(name.clone()).or_default().push(line.to_owned());
                        }
                    }
                }
            }
            if n <= OVERLAP || at + n as u64 >= to {
                at += n as u64;
            } else {
                at += (n - OVERLAP) as u64;
            }
        }
    }
    (found, read)
}

#[test]
fn the_key_schedule_is_the_standards() {
    let key = hex::decode("2b7e151628aed2a6abf7158809cf4f3c").expect("hex");
    let words = round_keys(&key);
    // FIPS 197, appendix A.1.
    assert_eq!(
        hex::encode(&words[16..32]),
        "a0fafe1788542cb123a339392a6c7605"
    );
    assert_eq!(
        hex::encode(&words[160..]),
        "d014f9a8c9ee2589e13f0cc8b6630ca6"
    );
}

#[test]
fn no_key_is_found_in_memory_or_core_dumps() {
    isolated_in_lab(|| {
        let unlimited = Rlimit {
            current: None,
            maximum: None,
        };
        setrlimit(Resource::Core, unlimited).expect("root");
        let device = |n: u8, role: &str| {
            format!(
                "net_memif0,role={role},id=0,socket={DIR}/m.sock,socket-abstract=no,mac={}",
                cable_mac(0, n)
            )
        };
        let (mut a, mut b) = (
            Host::new(1, &device(1, "server")),
            Host::new(2, &device(2, "client")),
        );
        (a.bind_ips, b.bind_ips) = (false, false);
        (a.vhost_mode, b.vhost_mode) = ("server", "server");
        let log = format!("{DIR}/security.jsonl");
        let yaml = format!("{}security-log: {{file: {log}}}\n", a.yaml());
        let (da, db) = (Daemon::start("a", &yaml), Daemon::start("b", &b.yaml()));
        let sockets = [
            a.socket("blue"),
            b.socket("blue"),
            a.socket("red"),
            b.socket("red"),
        ];
        let mut testpmd = Testpmd::tenants(&sockets, false, 1);
        for daemon in [&da, &db] {
            daemon.wait("tunnels and tenants up", |s| {
                s.tunnels.iter().all(|t| t.state == "up")
                    && s.ports
                        .iter()
                        .filter(|p| p.kind == "vhost")
                        .all(|p| p.state == "up")
            });
        }
        let counted = testpmd.exchange(&[0, 1, 2, 3], 8);
        assert!(
            counted.iter().all(|port| port.rx == 8 * BURST),
            "{counted:?}"
        );

        let spis = (1..=2_u32).flat_map(|n| VNS.map(|(_, vni, alg)| (n << 16 | vni, alg)));
        let mut wanted = Vec::new();
        for (spi, algorithm) in spis {
            let algorithm = match algorithm {
                "aes-256-gcm" => Algorithm::Gcm256,
                _ => Algorithm::Gcm128,
            };
            wanted.extend(secrets(&Sa::new(spi, algorithm)));
        }
        let secret = wanted.len();
        assert_eq!(secret, 4 * 9);
        // Something of the configuration that is no secret shows that the search finds things.
        for name in ["a", "b"] {
            wanted.push((
                format!("state-{name}"),
                format!("{DIR}/state-{name}").into_bytes(),
            ));
        }
        for (daemon, own) in [(&da, "state-a"), (&db, "state-b")] {
            // A kernel without memfd_secret says so by a line in the log.
            let secretmem = daemon.log().contains("memfd_secret");
            let (mut found, read) = search(daemon.pid(), &wanted, secretmem);
            assert!(read > 64 << 20, "only {read} bytes could be read");
            assert!(
                found.remove(own).is_some(),
                "the search finds nothing at all"
            );
            assert!(found.is_empty(), "{own}: {found:#?}");
            println!(
                "{own}: {read} bytes searched for {secret} patterns: none found \
                 (memfd_secret: {secretmem})"
            );
        }
        // This process has made the same keys carelessly, and the same search finds them.
        let careless: Vec<Vec<u8>> = wanted.iter().map(|(_, bytes)| bytes.clone()).collect();
        let (found, _) = search(std::process::id(), &wanted, true);
        assert_eq!(found.len(), careless.len());

        hostile_frontend_is_told(&a.socket("blue"), &log);
        testpmd.quit();
        no_core_dump(da);
        db.stop();
    });
}

/// A second frontend on a socket, in the daemon's own log.
fn hostile_frontend_is_told(socket: &str, log: &str) {
    let mut second = UnixStream::connect(socket).expect("a socket");
    let _ = second.write_all(&[0; 4]);
    assert!(matches!(second.read(&mut [0]), Ok(0) | Err(_)), "cut off");
    let line = wait_for("a line in the log", 10, || {
        let text = fs::read_to_string(log).ok()?;
        text.lines()
            .find(|l| l.contains("hostile-frontend"))
            .map(str::to_owned)
    });
    let (_, rest) = line.split_once("Z\",").expect("a time");
    assert_eq!(
        rest,
        "\"message\":\"a frontend was cut off: another frontend is connected\",\
         \"kind\":\"hostile-frontend\",\"reason\":\"busy\",\"port\":\"a-blue\",\"uid\":0,\
         \"count\":1,\"suppressed\":0}"
    );
}

/// A daemon that aborts leaves no core, where another process does.
fn no_core_dump(daemon: Daemon) {
    let dir = tempfile::tempdir().expect("a directory");
    let ordinary = Command::new("sh")
        .args(["-c", "kill -ABRT $$"])
        .current_dir(dir.path())
        .status()
        .expect("sh");
    assert!(
        ordinary.core_dumped(),
        "this host dumps no cores: {ordinary}"
    );
    let status = daemon.abort();
    assert_eq!(status.signal(), Some(6), "{status}");
    assert!(!status.core_dumped(), "{status}");
}
