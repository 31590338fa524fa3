//! A writer of the redb store is killed at random instants, many times: whatever it was told to be
//! stored is there, and no transaction in part. The writer is this test's own binary.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use vswitch_control::message::operator::Text;
use vswitch_ima::model::{Key, Plan, Record, Revoked, State, Transaction};
use vswitch_ima::store::redb::Redb;
use vswitch_ima::store::{Commit, Store};

/// Tells the test that it is the writer, and where to write.
const CHILD: &str = "VSWITCH_TEST_CHILD_STORE";

/// Records of each transaction.
const PARTS: usize = 3;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

fn text(of: u64) -> Record {
    let text = Text::of(&of.to_string());
    Record::Revoked(Revoked {
        by: text.clone(),
        reason: text,
    })
}

fn key(part: usize) -> Key {
    Key::Revoked(format!("part-{part}").parse().unwrap())
}

/// The number of the last transaction. Panics if one is there in part.
async fn last(store: &mut Redb) -> u64 {
    let records = store.load().await.unwrap();
    let values: Vec<u64> = records
        .iter()
        .filter(|(key, _)| key.to_string().starts_with("revoked/part"))
        .map(|(_, record)| match record {
            Record::Revoked(revoked) => revoked.by.as_str().parse().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(values.is_empty() || values.len() == PARTS, "{values:?}");
    assert!(
        values.windows(2).all(|pair| pair[0] == pair[1]),
        "{values:?}"
    );
    let last = values.first().copied().unwrap_or(0);
    // And each left a record of its own behind.
    let own = records
        .iter()
        .filter(|(key, _)| key.to_string().starts_with("revoked/own"));
    assert_eq!(own.count() as u64, last);
    last
}

/// Writes until killed, and says so after each transaction.
fn write(path: &Path) {
    runtime().block_on(async {
        let mut store = Redb::open(path).unwrap();
        let mut number = last(&mut store).await;
        let mut state = State::load(8, store.load().await.unwrap());
        loop {
            number += 1;
            let mut plan = Plan::default();
            for part in 0..PARTS {
                plan.put(&state, key(part), text(number));
            }
            let own = Key::Revoked(format!("own-{number}").parse().unwrap());
            plan.put(&state, own, text(number));
            state.apply(plan.ops());
            let mut transaction = Transaction::default();
            transaction.absorb(&plan);
            let committed = store.commit(&transaction).await.unwrap();
            assert_eq!(committed.commit, Commit::Done);
            println!("stored {number}");
            std::io::stdout().flush().unwrap();
        }
    });
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    if let Some(path) = std::env::var_os(CHILD) {
        return write(Path::new(&path));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ima.redb");
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sum = 0;
    // The harness names a test's thread after the test.
    let test = std::thread::current();
    let test = test.name().unwrap();
    for round in 0..40 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || {
            let mut acknowledged = 0;
            while let Some(Ok(line)) = lines.next() {
                // The test harness writes the first one's beginning.
                if let Some((_, number)) = line.split_once("stored ") {
                    acknowledged = number.parse().unwrap();
                }
            }
            acknowledged
        });
        // Sometimes while it opens the file, mostly while it writes.
        std::thread::sleep(Duration::from_micros(random.u64(2_000..120_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged: u64 = reader.join().unwrap();
        let found = runtime().block_on(async { last(&mut Redb::open(&path).unwrap()).await });
        assert!(
            found >= acknowledged,
            "round {round}: {found} of {acknowledged}"
        );
        assert!(found >= sum, "round {round}: {found} after {sum}");
        sum = found;
    }
    assert!(sum > 40, "it hardly wrote: {sum}");
}

#[test]
fn one_process_has_the_file_and_its_owner_alone_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ima.redb");
    let store = Redb::open(&path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(Redb::open(&path).is_err());
    drop(store);
    assert!(Redb::open(&path).is_ok());
    std::fs::write(directory.path().join("other"), vec![7; 8192]).unwrap();
    let error = Redb::open(&directory.path().join("other"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("other"), "{error}");
}
