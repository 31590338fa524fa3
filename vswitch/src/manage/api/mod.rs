//! The switch's API: HTTP/JSON over a unix socket. `docs/openapi.yaml` is its description;
//! both ends are here, for `vswitchd` (serve) and `vswitchctl` (ask). Changes of the
//! configuration are handed in at the `desk`.

mod authority_routes;
mod capture;
mod client;
mod config_routes;
mod desk;
mod keys;
mod lines;
mod routes;
mod server;
mod socket;
mod source;
mod trace;

pub use authority_routes::{KEYS, MAPPINGS, SESSIONS};
pub use capture::{CAPTURE_ROUTE, CAPTURES_ROUTE, Capturing, capture, stop_capture};
pub use client::{ClientError, get, get_route, post};
pub use config_routes::{APPLY, CONFIG, DIFF, REVISIONS};
pub use desk::{
    Answer, Configurator, Desk, DeskError, Difference, Proposal, RunningConfig, Wanted,
};
pub use keys::{KEYS_ROUTE, KeyFormat, SecretText, export_keys};
pub use lines::{AnswerLines, post_lines};
pub use routes::{ErrorBody, Section, router};
pub use server::{Api, ApiError, serve};
pub use source::{Source, StatusRequest, Unavailable};
pub use trace::{INJECT, TRACE};

/// Where the API is, unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/vswitch/api.sock";
