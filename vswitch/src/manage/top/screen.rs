//! A frame on a terminal of any size.

use ratatui::Frame as Canvas;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table};

use super::rates::{Frame, Sort};
use super::text::{percent, rate, ticks, times, title};
use crate::manage::show::table::printable;

/// What is to be seen.
#[derive(Debug, Default)]
pub struct View {
    /// The last frame; `None` before the first answer.
    pub frame: Option<Frame>,
    /// Why there is no newer one.
    pub lost: Option<String>,
    /// What traffic is sorted by.
    pub sort: Sort,
    /// First row of traffic to be seen.
    pub scroll: usize,
}

const KEYS: &str = " q quit  p packets  b bits  d drops  n name  up/down scroll";
const HEADER: Style = Style::new().add_modifier(Modifier::REVERSED);
const ALARM: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
/// From this width on, drops and latencies stand side by side.
const WIDE: u16 = 120;

/// Draws it. What has no room is cut off: workers and traffic stay longest.
pub fn draw(view: &View, canvas: &mut Canvas<'_>) {
    let area = canvas.area();
    let [top, body, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(u16::from(area.height > 4)),
    ])
    .areas(area);
    canvas.render_widget(headline(view), top);
    let keys = format!("{KEYS}   sorted by {:?}", view.sort).to_lowercase();
    canvas.render_widget(Paragraph::new(keys).style(HEADER), bottom);
    if let Some(frame) = &view.frame {
        tables(view, frame, canvas, body);
    }
}

fn headline(view: &View) -> Paragraph<'_> {
    let title = match (&view.frame, &view.lost) {
        (Some(frame), _) => printable(&title(frame)),
        (None, Some(_)) => "vswitch".to_owned(),
        (None, None) => "vswitch: waiting for the first answer".to_owned(),
    };
    let mut line = Line::from(title);
    if let Some(lost) = &view.lost {
        let lost = format!("CONNECTION LOST, trying again: {}  ", printable(lost));
        line.spans.insert(0, Span::styled(lost, ALARM));
    }
    Paragraph::new(line)
}

fn tables(view: &View, frame: &Frame, canvas: &mut Canvas<'_>, area: Rect) {
    let rows = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).saturating_add(1);
    // A worker has a line if half the screen is left for others.
    let workers = rows(frame.workers.len()).min(area.height.div_ceil(2));
    let wide = area.width >= WIDE;
    let (drops, latency) = (rows(frame.drops.len()), rows(frame.latency.len()));
    let wanted = if wide {
        drops.max(latency)
    } else {
        drops.saturating_add(latency)
    };
    let left = area.height.saturating_sub(workers);
    // What is below has a third, more where traffic does not need it.
    let spare = left.saturating_sub(rows(frame.traffic.len()));
    let below = wanted.min((left / 3).max(spare));
    let [first, second, third] = Layout::vertical([
        Constraint::Length(workers),
        Constraint::Fill(1),
        Constraint::Length(below),
    ])
    .areas(area);
    canvas.render_widget(workers_table(frame), first);
    canvas.render_widget(traffic_table(view, frame), second);
    let [a, b] = if wide {
        Layout::horizontal([Constraint::Length(44), Constraint::Fill(1)])
            .spacing(2)
            .areas(third)
    } else {
        Layout::vertical([
            Constraint::Length(drops.min(below / 2)),
            Constraint::Fill(1),
        ])
        .areas(third)
    };
    canvas.render_widget(drops_table(frame), a);
    canvas.render_widget(latency_table(frame), b);
}

fn table<'a>(
    titles: &[&str],
    widths: &[u16],
    rows: impl Iterator<Item = (Vec<String>, Style)>,
) -> Table<'a> {
    // Names to the left, figures to the right, as far as a column of the first kind goes.
    let names = titles
        .iter()
        .take_while(|t| **t == t.to_uppercase())
        .count();
    let cells = |texts: Vec<String>| {
        let placed: Vec<Line<'a>> = texts
            .into_iter()
            .enumerate()
            .map(|(i, text)| {
                if i < names {
                    Line::from(text)
                } else {
                    Line::from(text).right_aligned()
                }
            })
            .collect();
        Row::new(placed)
    };
    let header = cells(titles.iter().map(|t| (*t).to_owned()).collect()).style(HEADER);
    let rows: Vec<Row<'a>> = rows
        .map(|(texts, style)| cells(texts).style(style))
        .collect();
    let widths = widths.iter().enumerate().map(|(i, width)| {
        if i + 1 == names.max(1) {
            Constraint::Min(*width)
        } else {
            Constraint::Length(*width)
        }
    });
    Table::new(rows, widths.collect::<Vec<_>>()).header(header)
}

fn alarm(rate: f64) -> Style {
    if rate > 0.0 { ALARM } else { Style::new() }
}

fn workers_table<'a>(frame: &Frame) -> Table<'a> {
    let titles = [
        "WORKER",
        "core",
        "busy",
        "packets/s",
        "ticks/packet",
        "handed out/s",
        "drops/s",
    ];
    table(
        &titles,
        &[6, 5, 7, 10, 12, 12, 9],
        frame.workers.iter().map(|worker| {
            let cells = vec![
                worker.id.to_string(),
                worker.core.to_string(),
                percent(worker.busy),
                rate(worker.packets),
                ticks(worker.ticks_per_packet),
                rate(worker.handed_out),
                rate(worker.drops),
            ];
            (cells, Style::new())
        }),
    )
}

fn traffic_table<'a>(view: &View, frame: &Frame) -> Table<'a> {
    let titles = [
        "KIND", "NAME", "rx pkt/s", "rx bit/s", "tx pkt/s", "tx bit/s", "drops/s",
    ];
    let last = frame.traffic.len().saturating_sub(1);
    table(
        &titles,
        &[6, 8, 9, 9, 9, 9, 9],
        frame.traffic.iter().skip(view.scroll.min(last)).map(|row| {
            let cells = vec![
                row.kind.to_owned(),
                printable(&row.name),
                rate(row.rx_packets),
                rate(row.rx_bits),
                rate(row.tx_packets),
                rate(row.tx_bits),
                rate(row.drops),
            ];
            (cells, alarm(row.drops))
        }),
    )
}

fn drops_table<'a>(frame: &Frame) -> Table<'a> {
    table(
        &["DROPS", "per second", "total"],
        &[16, 10, 12],
        frame.drops.iter().map(|drop| {
            let cells = vec![
                printable(&drop.reason),
                rate(drop.rate),
                drop.total.to_string(),
            ];
            (cells, alarm(drop.rate))
        }),
    )
}

fn latency_table<'a>(frame: &Frame) -> Table<'a> {
    table(
        &["LATENCY", "samples", "p50", "p90", "p99", "p99.9", "max"],
        &[18, 8, 8, 8, 8, 8, 8],
        frame.latency.iter().map(|row| {
            let found = &row.recent;
            let time = |ns| times(found.samples, ns);
            let cells = vec![
                printable(&row.direction),
                found.samples.to_string(),
                time(found.p50),
                time(found.p90),
                time(found.p99),
                time(found.p999),
                time(found.max),
            ];
            (cells, Style::new())
        }),
    )
}
