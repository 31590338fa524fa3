//! The operator's view, end to end: a made-up status served in-process, and the real
//! `vswitchctl` (and curl) asking for it.

mod api;
mod changes;
mod docs;
mod metrics;
mod openapi;
mod show;
mod switch;
mod top;
mod trace;
