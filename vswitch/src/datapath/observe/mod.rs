//! Watching packets on their way: what `vswitchctl trace` and `vswitchctl capture` are fed by.
//!
//! `filter` says which packets ([`Match`]), `headers` what it looks at, `record` what is kept
//! of one packet ([`Record`]), `step` what a stage decided ([`Step`]), `recorder` keeps the
//! packets under observation, `observer` is the probe that a worker carries while somebody
//! watches, and `rehearse` the one of a dry run.
//!
//! ```text
//! control: Command::Observe(Observation{ filter, snaplen, reports, lost })   to every worker
//! worker:  arrives → step, step, copy, hand over … → verdict → matches? → reports.try_send
//! control: reads Box<Record>s at its leisure; Command::Unobserve(id) ends it
//! ```
//!
//! A worker that nobody watches runs `Worker<NoProbe>`, in which all hooks compile to nothing:
//! the loop turns itself into `Worker<Observer>` at a burst boundary when the first observation
//! begins, and back when the last one ends.
//!
//! Whether a packet matches is known when it ends: only then are its verdict, the port it
//! leaves by and, of a sealed packet, the frame inside known. Until then its record is kept,
//! up to [`recorder::LIVE`] of them in a worker. A packet that is handed to another worker
//! takes its record along, through the [`Exchange`].
mod exchange;
mod filter;
mod headers;
mod observer;
mod record;
pub mod recorder;
mod rehearse;
mod step;

pub use exchange::Exchange;
pub use filter::{Came, Match, Side, Wanted};
pub use headers::Headers;
pub use observer::{MAX_OBSERVATIONS, Observation, Observer};
pub use record::{Bytes, MAX_STEPS, Mark, Place, Record};
pub use rehearse::{Aside, DryRun, Outcome, Rehearsal, SECRET_LEN, Start};
pub use step::{Rule, Step};
