//! Changing a running switch: what is different (`diff`), what that cannot be done to
//! (`restart`), who asks for it, and what comes of it. Carried out by `edge`.

mod describe;
mod diff;
mod order;
mod restart;
#[cfg(test)]
mod tests;

pub use diff::{Diff, Entry, Field, Op};
pub use order::{Applied, How, Order, Refused, Revision, Running, Who};
