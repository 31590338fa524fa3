//! The operator's side of the edge: what it is told to be and what it shows of itself.
pub mod api;
pub mod change;
pub mod config;
pub mod ctl;
pub mod edge;
pub mod show;
pub mod status;
