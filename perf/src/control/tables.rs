//! The figures for people.

use std::io::Write;

use super::{Found, Sent, VNS_PER_EDGE};
use crate::machine::Machine;
use crate::plot::Series;
use crate::report::Table;
use crate::save::Picture;

/// A figure, if it is one.
fn cell(value: f64, digits: usize) -> String {
    match value.is_finite() {
        true => format!("{value:.digits$}"),
        false => "–".to_owned(),
    }
}

/// Writes the tables.
pub(super) fn write(out: &mut impl Write, found: &Found, machine: &Machine) -> anyhow::Result<()> {
    let overlay = &found.overlay;
    writeln!(out, "{machine}\n")?;
    writeln!(
        out,
        "Size `{}`: {} edges at one authority (redb), {} networks of {} members each, {} mappings; an edge \
         is in {VNS_PER_EDGE} networks with {} peers and knows {} mappings. One network more has {} members.\n",
        found.scale,
        overlay.edges(),
        overlay.vns(),
        overlay.members,
        overlay.mappings(),
        overlay.members - 1,
        overlay.known(),
        overlay.broad,
    )?;
    starting(out, found)?;
    changing(out, found)?;
    growing(out, found)?;
    agreeing(out, found)
}

fn starting(out: &mut impl Write, found: &Found) -> anyhow::Result<()> {
    writeln!(
        out,
        "Starting everything. `bytes each`: what the authority has allocated more, by its allocator, its \
         database's cache included\n"
    )?;
    let mut table = Table::new([
        "step",
        "count",
        "s",
        "per s",
        "per authority CPU s",
        "authority CPU s",
        "others' CPU s",
        "bytes each",
    ]);
    let (mut seconds, mut authority, mut others) = (0.0, 0.0, 0.0);
    for (name, step) in &found.steps {
        let count = step.count as f64;
        table.row([
            (*name).to_owned(),
            step.count.to_string(),
            cell(step.seconds, 2),
            cell(count / step.seconds, 0),
            cell(count / step.authority, 0),
            cell(step.authority, 2),
            cell(step.others, 2),
            cell(step.bytes / count, 0),
        ]);
        seconds += step.seconds;
        authority += step.authority;
        others += step.others;
    }
    let dash = || "–".to_owned();
    let (start, bytes) = found.restart;
    table.row([
        "all of it".to_owned(),
        dash(),
        cell(seconds, 2),
        dash(),
        dash(),
        cell(authority, 2),
        cell(others, 2),
        dash(),
    ]);
    table.write(out)?;
    let ms = |share| found.handshakes.ms(share);
    writeln!(
        out,
        "\nFrom an edge's dial to its session, 64 at once: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms; {} \
         dials were refused by the authority's limits and tried again. A second start of the authority, on \
         all that is stored: {start:.2} s until it takes sessions, {bytes} bytes allocated.\n",
        ms(0.5),
        ms(0.99),
        ms(1.0),
        found.refused,
    )?;
    Ok(())
}

fn changing(out: &mut impl Write, found: &Found) -> anyhow::Result<()> {
    writeln!(
        out,
        "Changes of mappings, each stored before anybody is told. `ms`: from the edge that registers until \
         the last member of the network knows\n"
    )?;
    let mut table = Table::new([
        "changes",
        "count",
        "members",
        "per s",
        "per authority CPU s",
        "p50 ms",
        "p99 ms",
        "max ms",
    ]);
    for changes in &found.changes {
        let (step, count) = (&changes.step, changes.step.count as f64);
        table.row([
            changes.name.to_owned(),
            step.count.to_string(),
            changes.members.to_string(),
            cell(count / step.seconds, 0),
            cell(count / step.authority, 0),
            cell(changes.times.ms(0.5), 2),
            cell(changes.times.ms(0.99), 2),
            cell(changes.times.ms(1.0), 2),
        ]);
    }
    table.write(out)?;
    writeln!(out)?;
    Ok(())
}

fn growing(out: &mut impl Write, found: &Found) -> anyhow::Result<()> {
    let changes = found.growth.first().map_or(0, |grown| grown.changes);
    writeln!(
        out,
        "What one edge is sent, in {VNS_PER_EDGE} networks with {} peers, while the overlay grows: messages / \
         bytes of the authority's frames\n",
        found.overlay.members - 1,
    )?;
    let mut table = Table::new([
        "edges, networks, mappings".to_owned(),
        "to start".to_owned(),
        format!("{changes} changes elsewhere"),
        format!("{changes} changes in its networks"),
    ]);
    let sent = |sent: Sent| format!("{} / {}", sent.messages, sent.bytes);
    for grown in &found.growth {
        table.row([
            format!("{}, {}, {}", grown.edges, grown.vns, grown.mappings),
            sent(grown.start),
            grown.elsewhere.map_or("–".to_owned(), sent),
            sent(grown.own),
        ]);
    }
    table.write(out)?;
    writeln!(out)?;
    Ok(())
}

fn agreeing(out: &mut impl Write, found: &Found) -> anyhow::Result<()> {
    writeln!(
        out,
        "Keys between two edges, each agreement an exchange of its own in a network of its own, and an SA each \
         way; CPU time is that of both edges. `ms`: from a worker's need until both ends have its SA / until \
         both ends have both SAs\n"
    )?;
    let mut table = Table::new([
        "agreements",
        "count",
        "per s",
        "per CPU s",
        "p50 ms",
        "p99 ms",
        "max ms",
    ]);
    for (name, keys) in &found.keys {
        let count = keys.agreements as f64;
        let ms = |share| {
            format!(
                "{:.2} / {:.2}",
                keys.one_way.ms(share),
                keys.both_ways.ms(share)
            )
        };
        table.row([
            (*name).to_owned(),
            keys.agreements.to_string(),
            cell(count / keys.seconds, 0),
            cell(count / keys.cpu, 0),
            ms(0.5),
            ms(0.99),
            ms(1.0),
        ]);
    }
    table.write(out)?;
    let memory = &found.memory;
    writeln!(
        out,
        "\nMemory of an edge's keying, in bytes, without sessions and without the data plane's keys\n"
    )?;
    let mut table = Table::new(["of each", "bytes"]);
    for (name, value) in [
        ("peer", memory.peer),
        ("network with a peer", memory.pair),
        ("outbound SA", memory.outbound),
        ("inbound SA", memory.inbound),
    ] {
        table.row([name.to_owned(), cell(value, 0)]);
    }
    table.write(out)?;
    Ok(())
}

/// How what an edge is sent depends on the overlay's size.
pub(super) fn pictures(found: &Found) -> Vec<Picture> {
    let line = |name: &str, of: &dyn Fn(&super::Grown) -> Option<Sent>| Series {
        name: name.to_owned(),
        points: found
            .growth
            .iter()
            .filter_map(|grown| Some((grown.edges as f64, of(grown)?.bytes as f64)))
            .collect(),
    };
    vec![Picture {
        name: "growth",
        title: "What one edge is sent while the overlay grows",
        x: "edges at the authority",
        y: "bytes",
        series: vec![
            line("to start", &|grown| Some(grown.start)),
            line("changes elsewhere", &|grown| grown.elsewhere),
            line("changes in its networks", &|grown| Some(grown.own)),
        ],
    }]
}
