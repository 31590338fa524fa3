//! The operator's side of the edge: what it is told to be and what it shows of itself.
pub mod api;
pub mod config;
pub mod edge;
pub mod hardening;
pub mod security;
pub mod show;
pub mod status;
