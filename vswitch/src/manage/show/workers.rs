//! Workers with their books, and why packets were dropped.

use super::table::{Cell, Left, Right, Table, printable};
use crate::manage::status::{Drop, Worker};

/// How wide a list of counts by worker may get before it goes on in the next line.
const LIST: usize = 60;

/// `show workers`: what came in, what went out, and how it ended.
pub(super) fn workers(workers: &[Worker]) -> String {
    if workers.is_empty() {
        return "No workers.\n".to_owned();
    }
    let mut input = Table::new([
        ("WORKER", Right),
        ("CORE", Right),
        ("BUSY", Right),
        ("RECEIVED", Right),
        ("GENERATED", Right),
        ("COPIED", Right),
        ("HANDED IN", Right),
        ("= IN", Right),
    ]);
    let mut output = Table::new([
        ("WORKER", Right),
        ("SENT", Right),
        ("DROPPED", Right),
        ("CONSUMED", Right),
        ("HANDED OUT", Right),
        ("HELD", Right),
        ("= OUT", Right),
        ("BALANCED", Left),
    ]);
    for worker in workers {
        input.row([
            worker.id.into(),
            worker.core.into(),
            format!("{:.1}%", worker.busy * 100.0).into(),
            worker.received.into(),
            worker.generated.into(),
            worker.copied.into(),
            worker.handed_in.into(),
            sum([
                worker.received,
                worker.generated,
                worker.copied,
                worker.handed_in,
            ])
            .into(),
        ]);
        output.row([
            worker.id.into(),
            worker.sent.into(),
            worker.dropped.into(),
            worker.consumed.into(),
            worker.handed_out.into(),
            worker.held.into(),
            sum([
                worker.sent,
                worker.dropped,
                worker.consumed,
                worker.handed_out,
                worker.held,
            ])
            .into(),
            if worker.balanced { "yes" } else { "NO" }.into(),
        ]);
    }
    let verdicts = verdicts(workers);
    format!("{input}\n{output}\n{verdicts}")
}

fn verdicts(workers: &[Worker]) -> Table<3> {
    let names: std::collections::BTreeSet<&String> =
        workers.iter().flat_map(|w| w.verdicts.keys()).collect();
    let mut table = Table::new([
        ("VERDICT", Left),
        ("PACKETS", Right),
        ("BY WORKER (WORKER:PACKETS)", Left),
    ]);
    for name in names {
        let counts = || {
            workers
                .iter()
                .filter_map(|w| Some((w.id, *w.verdicts.get(name)?)))
        };
        table.row([
            Cell::from(name),
            sum(counts().map(|(_, packets)| packets)).into(),
            Cell::list(
                counts().map(|(id, packets)| format!("{id}:{packets}")),
                LIST,
            ),
        ]);
    }
    table
}

/// In 128 bits: a sum of counters is not to wrap.
fn sum(counts: impl IntoIterator<Item = u64>) -> u128 {
    counts.into_iter().map(u128::from).sum()
}

/// `show drops`, those without packets only if `all`.
pub(super) fn drops(drops: &[Drop], all: bool) -> String {
    let mut shown = drops
        .iter()
        .filter(|drop| all || drop.packets > 0)
        .peekable();
    if shown.peek().is_none() {
        return "No drops.\n".to_owned();
    }
    let mut table = Table::new([("REASON", Left), ("PACKETS", Right), ("MEANING", Left)]);
    for drop in shown {
        table.row([
            Cell::from(&drop.reason),
            drop.packets.into(),
            Cell::from(printable(&drop.help)),
        ]);
    }
    table.to_string()
}
