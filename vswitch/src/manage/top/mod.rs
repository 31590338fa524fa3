//! `vswitchctl top`: what the switch does right now, on a terminal or as plain text.
//!
//! `rates` makes a frame of two reports, `screen` draws it, `text` writes it; here are the
//! loop and its keys. Reports are fetched by a thread of their own, so that keys are heard
//! however long the switch takes.

pub mod rates;
pub mod screen;
mod text;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use self::rates::{Frame, Sort};
use self::screen::View;
use super::api::{self, ClientError, Section};
use super::status::Status;

/// Options of `vswitchctl top`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Seconds between two looks.
    #[arg(
        long,
        short,
        value_name = "SECONDS",
        default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    interval: u64,
    /// What ports, networks and tunnels are sorted by.
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Print one frame as plain text (or, with --json, as JSON) and end.
    #[arg(long, conflicts_with = "batch")]
    once: bool,
    /// Print frame after frame as plain text (or, with --json, a line of JSON each).
    #[arg(long)]
    batch: bool,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// Nothing to draw on.
    #[error("standard output is no terminal: use --once or --batch")]
    NoTerminal,
    /// The switch does not answer, and nobody is there to wait for it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It answers something else.
    #[error(
        "vswitchd's answer is not understood: is it of the version of this vswitchctl (see \
         `vswitchctl --version`)? {0}"
    )]
    Skew(#[from] serde_json::Error),
    /// The terminal, or whoever reads the output.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Shows the switch behind `socket` until the operator has seen enough.
///
/// # Errors
/// As [`TopError`] has them. On a terminal, a switch that does not answer is no error: it is
/// said, and asked again.
pub fn run(socket: &Path, options: &Options, json: bool) -> Result<(), TopError> {
    if options.once || options.batch || json {
        return print(socket, options, json);
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(TopError::NoTerminal);
    }
    let mut terminal = ratatui::try_init()?;
    let reports = follow(socket, Duration::from_secs(options.interval));
    let shown = show(&mut terminal, &reports, options.sort);
    ratatui::try_restore()?;
    shown
}

fn ask(runtime: &tokio::runtime::Runtime, socket: &Path) -> Result<Status, TopError> {
    let body = runtime.block_on(api::get(socket, Section::Status))?;
    Ok(serde_json::from_slice(&body)?)
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn print(socket: &Path, options: &Options, json: bool) -> Result<(), TopError> {
    let runtime = runtime()?;
    let mut before = ask(&runtime, socket)?;
    loop {
        thread::sleep(Duration::from_secs(options.interval));
        let after = ask(&runtime, socket)?;
        let frame = Frame::between(Some(&before), &after, options.sort);
        let mut out = io::stdout().lock();
        if json {
            serde_json::to_writer(&mut out, &frame)?;
            writeln!(out)?;
        } else {
            out.write_all(text::text(&frame).as_bytes())?;
            if !options.once {
                writeln!(out)?;
            }
        }
        out.flush()?;
        drop(out);
        if options.once {
            return Ok(());
        }
        before = after;
    }
}

/// A report, or why there is none.
pub type Report = Result<Box<Status>, String>;

/// Asks again and again, until nobody listens.
fn follow(socket: &Path, interval: Duration) -> Receiver<Report> {
    let (sender, reports) = channel();
    let socket = socket.to_owned();
    thread::spawn(move || fetch(&socket, interval, &sender));
    reports
}

fn fetch(socket: &Path, interval: Duration, sender: &Sender<Report>) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            // The listener may be gone already; then there is nobody to tell.
            let _ = sender.send(Err(error.to_string()));
            return;
        }
    };
    loop {
        let next = Instant::now() + interval;
        let report = ask(&runtime, socket).map(Box::new);
        if sender.send(report.map_err(|e| e.to_string())).is_err() {
            return;
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// How long a key or a report may wait to be seen.
const MOMENT: Duration = Duration::from_millis(50);

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    reports: &Receiver<Report>,
    sort: Sort,
) -> Result<(), TopError> {
    let mut top = Top::new(sort);
    loop {
        terminal.draw(|canvas| screen::draw(&top.view, canvas))?;
        loop {
            let mut changed = false;
            match reports.recv_timeout(MOMENT) {
                Ok(report) => {
                    top.reported(report);
                    changed = true;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => thread::sleep(MOMENT),
            }
            while event::poll(Duration::ZERO)? {
                changed = true;
                if let Event::Key(key) = event::read()?
                    && key.kind == KeyEventKind::Press
                    && top.pressed(key) == Then::Quit
                {
                    return Ok(());
                }
            }
            if changed {
                break;
            }
        }
    }
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Go on.
    Stay,
    /// The operator has seen enough.
    Quit,
}

/// The state behind the screen.
#[derive(Debug, Default)]
pub struct Top {
    /// What is to be seen.
    pub view: View,
    before: Option<Box<Status>>,
    after: Option<Box<Status>>,
}

impl Top {
    /// Before the first report.
    pub fn new(sort: Sort) -> Self {
        let mut top = Top::default();
        top.view.sort = sort;
        top
    }

    /// A report has come, or none.
    pub fn reported(&mut self, report: Report) {
        match report {
            Ok(status) => {
                self.before = self.after.replace(status);
                self.view.lost = None;
                self.refresh();
            }
            Err(why) => self.view.lost = Some(why),
        }
    }

    fn refresh(&mut self) {
        if let Some(after) = &self.after {
            let frame = Frame::between(self.before.as_deref(), after, self.view.sort);
            self.view.scroll = self.view.scroll.min(frame.traffic.len().saturating_sub(1));
            self.view.frame = Some(frame);
        }
    }

    /// A key was pressed.
    pub fn pressed(&mut self, key: KeyEvent) -> Then {
        const PAGE: usize = 10;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let rows = self.view.frame.as_ref().map_or(0, |f| f.traffic.len());
        let down = |scroll: usize, n| scroll.saturating_add(n).min(rows.saturating_sub(1));
        let scroll = self.view.scroll;
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Then::Quit,
            KeyCode::Char('c') if control => return Then::Quit,
            KeyCode::Char('p') => self.view.sort = Sort::Packets,
            KeyCode::Char('b') => self.view.sort = Sort::Bits,
            KeyCode::Char('d') => self.view.sort = Sort::Drops,
            KeyCode::Char('n') => self.view.sort = Sort::Name,
            KeyCode::Up => self.view.scroll = scroll.saturating_sub(1),
            KeyCode::Down => self.view.scroll = down(scroll, 1),
            KeyCode::PageUp => self.view.scroll = scroll.saturating_sub(PAGE),
            KeyCode::PageDown => self.view.scroll = down(scroll, PAGE),
            KeyCode::Home => self.view.scroll = 0,
            KeyCode::End => self.view.scroll = down(rows, 0),
            _ => return Then::Stay,
        }
        self.refresh();
        Then::Stay
    }
}
