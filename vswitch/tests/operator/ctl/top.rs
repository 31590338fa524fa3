//! `vswitchctl top`: what it makes of two reports, on screens of all sizes and as text.

use std::sync::mpsc::Receiver;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value;
use vswitch::manage::api::StatusRequest;
use vswitch::manage::status::Status;
use vswitch::manage::top::rates::{Frame, Sort};
use vswitch::manage::top::screen::draw;
use vswitch::manage::top::{Then, Top};

use super::switch::{Switch, status, stderr};

/// The status two seconds later.
fn later() -> Status {
    let mut later = status();
    later.nve.uptime += 2;
    later.nve.uptime_ns += 2_000_000_000;
    let worker = &mut later.workers[0];
    worker.received += 3_000_000;
    worker.handed_in += 1_000_000;
    worker.busy_ticks += 600_000_000;
    worker.idle_ticks += 1_400_000_000;
    worker.dropped += 50;
    worker.handed_out += 2_000;
    let web = later.ports.iter_mut().find(|p| p.name == "web-1").unwrap();
    web.traffic.rx_packets += 2_000_000;
    web.traffic.rx_bytes += 128_000_000;
    web.traffic.tx_dropped += 40;
    web.traffic.rx_dropped += 10;
    later.vns[1].traffic.tx_packets += 4_000_000;
    later.vns[1].traffic.tx_bytes += 1_000;
    let drop = later
        .drops
        .iter_mut()
        .find(|d| d.reason == "spoofed-mac")
        .unwrap();
    drop.packets += 50;
    later
}

fn screen(top: &Top, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|canvas| draw(&top.view, canvas)).unwrap();
    let cells = terminal.backend().buffer().content();
    let lines = cells.chunks(usize::from(width).max(1));
    let line = |cells: &[ratatui::buffer::Cell]| -> String {
        let text: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.trim_end().to_owned() + "\n"
    };
    lines.map(line).collect()
}

fn shown() -> Top {
    let mut top = Top::new(Sort::Packets);
    top.reported(Ok(Box::new(status())));
    top.reported(Ok(Box::new(later())));
    top
}

fn words(line: &str) -> Vec<&str> {
    line.split("  ")
        .map(str::trim)
        .filter(|w| !w.is_empty())
        .collect()
}

fn line_of<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines()
        .find(|line| line.trim_start().starts_with(start))
        .unwrap_or_else(|| panic!("no {start} in\n{text}"))
}

#[test]
fn rates_are_differences_over_the_switchs_own_time() {
    let frame = Frame::between(Some(&status()), &later(), Sort::Name);
    assert_eq!(frame.seconds, 2.0);
    let worker = &frame.workers[0];
    assert_eq!(
        (worker.packets, worker.drops, worker.handed_out),
        (2e6, 25.0, 1e3)
    );
    assert_eq!((worker.busy, worker.ticks_per_packet), (0.3, Some(150.0)));
    assert_eq!(frame.workers[1].ticks_per_packet, None);
    let web = frame.traffic.iter().find(|t| t.name == "web-1").unwrap();
    assert_eq!((web.rx_packets, web.rx_bits), (1e6, 512e6));
    assert_eq!((web.tx_packets, web.drops), (0.0, 25.0));
    assert_eq!(
        (frame.drops[0].reason.as_str(), frame.drops[0].rate),
        ("spoofed-mac", 25.0)
    );
    assert_eq!(frame.drops[0].total, 67);
    let p50 = frame.latency[0].recent.p50;
    assert_eq!(p50, status().latency[0].recent.p50);
}

#[test]
fn without_an_earlier_report_there_are_no_rates() {
    // The first look, and a switch that was started anew in between.
    let mut young = status();
    young.nve.uptime_ns = 1;
    for frame in [
        Frame::between(None, &status(), Sort::Packets),
        Frame::between(Some(&status()), &young, Sort::Packets),
    ] {
        assert_eq!(frame.seconds, 0.0);
        assert!(
            frame
                .traffic
                .iter()
                .all(|t| t.rx_packets == 0.0 && t.drops == 0.0)
        );
        assert!(frame.drops.iter().all(|d| d.rate == 0.0));
        assert_eq!(frame.workers[0].busy, status().workers[0].busy);
    }
}

#[test]
fn the_screen_has_it_all() {
    let text = screen(&shown(), 120, 40);
    assert!(
        text.starts_with("nve-a  up 3d 04:05:08  rates over 2.0 s\n"),
        "{text}"
    );
    assert_eq!(
        words(line_of(&text, "0 ")),
        ["0", "2", "30.0%", "2.00 M", "150", "1.00 k", "25"]
    );
    let web = line_of(&text, "port   web-1");
    assert_eq!(
        words(web),
        ["port", "web-1", "1.00 M", "512 M", "0", "0", "25"]
    );
    assert!(line_of(&text, "spoofed-mac").contains("67"));
    let latency = text
        .lines()
        .find(|l| l.contains("tenant-to-underlay"))
        .unwrap();
    for cell in [
        "301220", "8.4 us", "16.2 us", "24.4 us", "59.9 us", "131.0 us",
    ] {
        assert!(latency.contains(cell), "{latency}");
    }
    assert!(text.contains("q quit"), "{text}");
    for name in ["tunnel blue/nve-b", "vn     green", "underlay-to-tenant"] {
        assert!(text.contains(name), "{name} in\n{text}");
    }
}

#[test]
fn no_terminal_is_too_small() {
    let mut lost = Top::new(Sort::Name);
    lost.reported(Err("no socket at /run/vswitch/api.sock".to_owned()));
    for top in [shown(), Top::new(Sort::Packets), lost] {
        for width in [0, 1, 2, 7, 20, 43, 80, 119, 120, 250] {
            for height in [0, 1, 2, 3, 4, 5, 6, 10, 24, 60] {
                screen(&top, width, height);
            }
        }
    }
    // What matters most is still there on a usual small one.
    let text = screen(&shown(), 80, 24);
    for what in ["30.0%", "web-1", "spoofed-mac", "tenant-to-underlay"] {
        assert!(text.contains(what), "{what} in\n{text}");
    }
    let tiny = screen(&shown(), 60, 8);
    assert!(tiny.contains("30.0%") && tiny.contains("green"), "{tiny}");
}

fn press(top: &mut Top, code: KeyCode) -> Then {
    top.pressed(KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn keys_sort_scroll_and_quit() {
    let mut top = shown();
    let first = |top: &Top| top.view.frame.as_ref().unwrap().traffic[0].name.clone();
    assert_eq!(first(&top), "green");
    assert_eq!(press(&mut top, KeyCode::Char('b')), Then::Stay);
    assert_eq!(first(&top), "web-1");
    press(&mut top, KeyCode::Char('n'));
    assert_eq!(first(&top), "db-lan");
    press(&mut top, KeyCode::Char('d'));
    assert_eq!(first(&top), "web-1");
    press(&mut top, KeyCode::Char('p'));
    assert_eq!(first(&top), "green");

    let rows = top.view.frame.as_ref().unwrap().traffic.len();
    press(&mut top, KeyCode::Down);
    assert!(!screen(&top, 120, 40).contains("vn     green"));
    press(&mut top, KeyCode::End);
    assert_eq!(top.view.scroll, rows - 1);
    press(&mut top, KeyCode::PageDown);
    assert_eq!(top.view.scroll, rows - 1);
    press(&mut top, KeyCode::Home);
    press(&mut top, KeyCode::Up);
    assert_eq!(top.view.scroll, 0);

    assert_eq!(press(&mut top, KeyCode::Char('x')), Then::Stay);
    assert_eq!(press(&mut top, KeyCode::Char('c')), Then::Stay);
    assert_eq!(press(&mut top, KeyCode::Char('q')), Then::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(top.pressed(interrupt), Then::Quit);
}

#[test]
fn a_lost_connection_is_said_and_what_was_known_stays() {
    let mut top = shown();
    top.reported(Err("nobody answers at /run/vswitch/api.sock".to_owned()));
    let text = screen(&top, 120, 40);
    assert!(
        text.starts_with("CONNECTION LOST, trying again: nobody answers"),
        "{text}"
    );
    assert!(text.contains("web-1"));
    // It comes back as a new process.
    let mut young = status();
    young.nve.uptime_ns = 5;
    top.reported(Ok(Box::new(young)));
    let text = screen(&top, 120, 40);
    assert!(
        !text.contains("LOST") && text.contains("no rates yet"),
        "{text}"
    );
}

#[test]
fn a_name_cannot_command_the_terminal() {
    let mut evil = status();
    evil.nve.name = "\u{1b}[2J".to_owned();
    evil.ports[0].name = "a\u{7}b".to_owned();
    let mut top = Top::new(Sort::Name);
    top.reported(Ok(Box::new(evil)));
    let text = screen(&top, 120, 40);
    assert!(
        !text.contains('\u{1b}') && !text.contains('\u{7}'),
        "{text:?}"
    );
}

/// A switch that says `status` first and `later` ever after.
fn growing(requests: Receiver<StatusRequest>) {
    let mut answer = status();
    for request in requests {
        request.answer(answer);
        answer = later();
    }
}

#[test]
fn one_frame_can_be_printed() {
    let switch = Switch::controlled(growing);
    let text = switch.shown(&["top", "--once"]);
    assert!(
        text.starts_with("nve-a  up 3d 04:05:08  rates over 2.0 s\n"),
        "{text}"
    );
    assert_eq!(
        words(line_of(&text, "vn ")),
        ["vn", "green", "0", "0", "2.00 M", "4.00 k", "0"]
    );
    assert_eq!(
        words(line_of(&text, "spoofed-mac")),
        ["spoofed-mac", "25", "67"]
    );
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }

    let switch = Switch::controlled(growing);
    let json = switch.shown(&["--json", "top", "--once", "--sort", "name"]);
    let frame: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(frame["traffic"][0]["name"], "db-lan");
    assert_eq!(frame["workers"][0]["ticks_per_packet"], 150.0);
}

#[test]
fn what_cannot_be_shown_is_an_error() {
    let switch = Switch::start();
    let output = switch.ctl(&["top"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--once"), "{output:?}");

    let ended = Switch::controlled(|requests| requests.into_iter().for_each(drop));
    let output = ended.ctl(&["top", "--once"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("stopping"), "{output:?}");
}
