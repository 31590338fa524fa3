//! What the authority knows: records as they are stored (`record`), the transactions that change them
//! (`transaction`), and all of them in memory with the indexes that answers need (`state`, `vn`).

mod record;
mod state;
mod transaction;
mod vn;

pub use record::{
    Audit, Claim, Clock, EdgeRecord, FORMAT, Joined, Key, MappingRecord, Placed, Record,
    RecordError, Revoked, VnRecord,
};
pub use state::State;
pub use transaction::{Op, Plan, Transaction};
pub use vn::{Vn, What};
