//! The operator's side of the edge: what it is told to be and what it shows of itself.
pub mod api;
pub mod capture;
pub mod config;
pub mod ctl;
pub mod edge;
pub mod keys;
pub mod observe;
pub mod show;
pub mod status;
