//! The figures for people.

use std::io::Write;

use super::ground::Ground;
use super::{OURS, OVS, SIZES, Way};
use crate::machine::Machine;
use crate::plot::Series;
use crate::report::{Record, Table};
use crate::save::Picture;

/// What is compared: without ports, or all of it where ports are not taken off.
fn compared(records: &[Record], way: Way, side: &str, bytes: usize) -> Option<f64> {
    let case = format!("{}/{side}", way.name());
    let find = |part| {
        let mut of = records.iter().filter(|r| r.case == case);
        of.find(|r| r.bytes == bytes && r.part == part)
            .map(|r| r.value)
    };
    find("without-io").or_else(|| find("total"))
}

/// A point for each size that has one.
fn points(of: impl Fn(usize) -> Option<f64>) -> Vec<(f64, f64)> {
    let point = |bytes| Some((bytes as f64, of(bytes)?));
    SIZES.into_iter().filter_map(point).collect()
}

/// Ticks of both sides by size and, if there is a peer, how they compare.
pub(super) fn pictures(records: &[Record]) -> Vec<Picture> {
    let sides = |way: Way| [OURS, OVS].map(|side| (way, side));
    let ticks = Way::ALL
        .into_iter()
        .flat_map(sides)
        .map(|(way, side)| Series {
            name: format!("{}, {side}", way.name()),
            points: points(|bytes| compared(records, way, side, bytes)),
        });
    let ratios = Way::ALL.into_iter().map(|way| Series {
        name: way.name().to_owned(),
        points: points(|bytes| {
            let of = |side| compared(records, way, side, bytes);
            Some(of(OURS)? / of(OVS)?)
        }),
    });
    let drawn = |series: &Series| !series.points.is_empty();
    let x = "bytes of a frame";
    let pictures = [
        Picture {
            name: "ticks",
            title: "A packet, protected here and in the clear there",
            x,
            y: "TSC ticks per packet, without ports but for vhost",
            series: ticks.filter(drawn).collect(),
        },
        Picture {
            name: "ratio",
            title: "A protected packet here beside a plain one there",
            x,
            y: "ours / Open vSwitch",
            series: ratios.filter(drawn).collect(),
        },
    ];
    let some = |picture: &Picture| !picture.series.is_empty();
    pictures.into_iter().filter(some).collect()
}

/// Writes the table. `missing` says why there is no peer, if there is none.
pub(super) fn write(
    out: &mut impl Write,
    records: &[Record],
    machine: &Machine,
    ground: &Ground,
    missing: Option<&str>,
) -> anyhow::Result<()> {
    writeln!(out, "{machine}\n")?;
    if let Some(why) = missing {
        writeln!(out, "`{OVS}`: not measured. {why}\n")?;
    }
    writeln!(
        out,
        "TSC ticks per packet, medians of {} turns: `{OVS}` in the clear ({}), `{OURS}` in ESP \
         with AES-128-GCM (Geneve). One polling thread each on core {}; `ports` is what the same \
         ports cost without a switch.\n",
        ground.rounds,
        ground.tunnel.name(),
        ground.cores.worker,
    )?;
    let head = [
        "path",
        "bytes",
        "OVS",
        "ports",
        "OVS without",
        "ours",
        "ports",
        "ours without",
        "ours / OVS",
    ];
    let mut table = Table::new(head);
    for way in Way::ALL {
        for bytes in SIZES {
            let find = |side: &str, part: &str| {
                let case = format!("{}/{side}", way.name());
                let found = records
                    .iter()
                    .find(|r| r.case == case && r.bytes == bytes && r.part == part);
                found.map(|r| r.value)
            };
            if find(OURS, "total").is_none() {
                continue;
            }
            let cell = |side, part| {
                find(side, part).map_or("–".to_owned(), |ticks| format!("{ticks:.0}"))
            };
            let compared = |side| compared(records, way, side, bytes);
            let ratio = compared(OURS).zip(compared(OVS));
            table.row([
                way.name().to_owned(),
                bytes.to_string(),
                cell(OVS, "total"),
                cell(OVS, "ports"),
                cell(OVS, "without-io"),
                cell(OURS, "total"),
                cell(OURS, "ports"),
                cell(OURS, "without-io"),
                ratio.map_or("–".to_owned(), |(ours, ovs)| format!("{:.2}", ours / ovs)),
            ]);
        }
    }
    Ok(table.write(out)?)
}
