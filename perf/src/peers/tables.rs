//! The figures for people.

use std::io::Write;

use super::ground::Ground;
use super::{OURS, OVS, SIZES, Way};
use crate::machine::Machine;
use crate::report::{Record, Table};

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
            // Where ports are not taken off, all of it is compared.
            let compared = |side| find(side, "without-io").or(find(side, "total"));
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
