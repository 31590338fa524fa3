//! A disk that loses power: of what was written and not synced any part is there afterwards, in any order,
//! sectors alone. What the file store has acknowledged must be there, and nothing in part.

use std::io;
use std::sync::{Arc, Mutex};

use redb::{Database, StorageBackend};
use vswitch_control::message::operator::Text;

use super::redb::Redb;
use super::{Commit, Store};
use crate::model::{Key, Plan, Record, Revoked, State, Transaction};

/// What a disk writes as one.
const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Write {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

fn apply(disk: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Bytes(at, bytes) => {
            let end = at + bytes.len();
            disk.resize(disk.len().max(end), 0);
            disk[*at..end].copy_from_slice(bytes);
        }
        Write::Length(length) => disk.resize(*length, 0),
    }
}

#[derive(Debug)]
struct Inside {
    /// What survives.
    durable: Vec<u8>,
    /// Since the last sync.
    pending: Vec<Write>,
    /// What is read.
    seen: Vec<u8>,
    /// Writes and syncs until the power goes.
    left: u32,
    rng: fastrand::Rng,
}

impl Inside {
    /// Counts a write or sync; `Err` when the power is gone.
    fn work(&mut self) -> io::Result<()> {
        self.left = self.left.saturating_sub(1);
        match self.left {
            0 => Err(io::Error::other("no power")),
            _ => Ok(()),
        }
    }

    /// What is on the disk when the power comes back.
    fn survives(&mut self) -> Vec<u8> {
        let mut disk = self.durable.clone();
        let mut pending = Vec::new();
        for write in &self.pending {
            match write {
                Write::Bytes(at, bytes) => {
                    // Each sector for itself.
                    let mut from = 0;
                    while from < bytes.len() {
                        let room = SECTOR - (at + from) % SECTOR;
                        let to = bytes.len().min(from + room);
                        pending.push(Write::Bytes(at + from, bytes[from..to].to_vec()));
                        from = to;
                    }
                }
                length @ Write::Length(_) => pending.push(length.clone()),
            }
        }
        // Some of them, or nearly none or all; in order, or in none.
        let share = [0.02, 0.5, 0.98][self.rng.usize(..3)];
        pending.retain(|_| self.rng.f64() < share);
        if self.rng.bool() {
            self.rng.shuffle(&mut pending);
        }
        pending.iter().for_each(|write| apply(&mut disk, write));
        disk
    }
}

#[derive(Debug, Clone)]
struct Disk(Arc<Mutex<Inside>>);

impl Disk {
    fn new(durable: Vec<u8>, left: u32, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            seen: durable.clone(),
            durable,
            pending: Vec::new(),
            left,
            rng: fastrand::Rng::with_seed(seed),
        })))
    }

    fn put(&self, write: Write) -> io::Result<()> {
        let mut inside = self.0.lock().unwrap();
        inside.pending.push(write.clone());
        inside.work()?;
        apply(&mut inside.seen, &write);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inside = self.0.lock().unwrap();
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = inside.seen.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.put(Write::Length(
            usize::try_from(len).map_err(io::Error::other)?,
        ))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inside = self.0.lock().unwrap();
        inside.work()?;
        inside.pending.clear();
        inside.durable = inside.seen.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        self.put(Write::Bytes(at, data.to_vec()))
    }
}

fn open(disk: &Disk) -> Option<Redb> {
    let database = Database::builder().create_with_backend(disk.clone()).ok()?;
    Redb::begin(database).ok()
}

fn text(of: u64) -> Record {
    let text = Text::of(&of.to_string());
    Record::Revoked(Revoked {
        by: text.clone(),
        reason: text,
    })
}

fn revoked(name: &str) -> Key {
    Key::Revoked(name.parse().unwrap())
}

/// Two records that every transaction writes, one of its own, and none of that of five before.
fn plan(state: &State, number: u64) -> Plan {
    let mut plan = Plan::default();
    for part in ["part-a", "part-b"] {
        plan.put(state, revoked(part), text(number));
    }
    plan.put(state, revoked(&format!("own-{number}")), text(number));
    if let Some(former) = number.checked_sub(5).filter(|former| *former > 0) {
        plan.delete(state, revoked(&format!("own-{former}")));
    }
    plan
}

/// What is there after so many transactions.
fn expected(number: u64) -> Vec<(Key, Record)> {
    let mut state = State::new(8);
    let mut all = Vec::new();
    for number in 1..=number {
        let plan = plan(&state, number);
        state.apply(plan.ops());
    }
    for (nve, record) in &state.revoked {
        let (key, record) = (Key::Revoked(nve.clone()), Record::Revoked(record.clone()));
        all.push((key, record));
    }
    all
}

/// The number of the last transaction, all of which must be there.
async fn last(store: &mut Redb) -> u64 {
    let mut records = store.load().await.unwrap();
    let of = |records: &[(Key, Record)]| {
        let part = records.iter().find(|(key, _)| *key == revoked("part-a"));
        part.map_or(0, |(_, record)| match record {
            Record::Revoked(revoked) => revoked.by.as_str().parse().unwrap(),
            other => panic!("{other:?}"),
        })
    };
    let number = of(&records);
    records.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(records, expected(number));
    assert_eq!(store.revision(), number);
    number
}

#[test]
fn what_was_acknowledged_survives_the_loss_of_power() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (mut written, mut kept, mut lost) = (0, 0, 0);
    for seed in 0..12 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let first = Disk::new(Vec::new(), u32::MAX, seed);
        drop(open(&first).expect("a new file"));
        let mut bytes = first.0.lock().unwrap().durable.clone();
        let mut acknowledged = 0;
        for round in 0..12 {
            let disk = Disk::new(bytes, rng.u32(1..400), rng.u64(..));
            runtime.block_on(async {
                // The power may go while the file is opened.
                let Some(mut store) = open(&disk) else { return };
                let found = last(&mut store).await;
                assert!(
                    found >= acknowledged,
                    "{seed} {round}: {found} of {acknowledged}"
                );
                kept += u32::from(found > acknowledged);
                acknowledged = found;
                let mut state = State::load(8, store.load().await.unwrap());
                loop {
                    let plan = plan(&state, acknowledged + 1);
                    let mut transaction = Transaction::default();
                    transaction.absorb(&plan);
                    let Ok(committed) = store.commit(&transaction).await else {
                        return;
                    };
                    assert_eq!(committed.commit, Commit::Done);
                    state.apply(plan.ops());
                    acknowledged += 1;
                    written += 1;
                }
            });
            let mut inside = disk.0.lock().unwrap();
            lost += u32::from(!inside.pending.is_empty());
            bytes = inside.survives();
        }
        let disk = Disk::new(bytes, u32::MAX, seed);
        let mut store = open(&disk).expect("the file opens");
        let found = runtime.block_on(last(&mut store));
        assert!(found >= acknowledged, "{seed}: {found} of {acknowledged}");
    }
    assert!(
        written > 100 && lost > 50,
        "{written} written, {kept} kept, {lost} lost"
    );
}
