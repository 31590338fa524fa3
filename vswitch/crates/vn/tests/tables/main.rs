//! The tables of a network: changed by transactions, and by what is learned.

mod common;
mod learning;
mod transaction_properties;
mod transactions;
