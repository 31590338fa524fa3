//! What an operator does with a running switch and is shown of it: changes, keys, traces, captures,
//! the books and the log.

mod books;
mod capture;
mod inject;
mod keys;
mod live;
mod live_daemon;
mod live_keys;
mod live_load;
mod live_refused;
mod security_log;
mod trace;
