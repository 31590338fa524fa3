//! The operator's side of the edge: what it is told to be and what it shows of itself.
pub mod api;
pub mod authority;
pub mod capture;
pub mod change;
pub mod config;
pub mod ctl;
pub mod doctor;
pub mod edge;
pub mod hardening;
pub mod keys;
pub mod metrics;
pub mod observe;
pub mod security;
pub mod show;
pub mod status;
pub mod tools;
pub mod top;
