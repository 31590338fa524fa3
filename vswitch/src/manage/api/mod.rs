//! The switch's API: HTTP/JSON over a unix socket, read-only. `docs/openapi.yaml` is its
//! description; both ends are here, for `vswitchd` (serve) and `vswitchctl` (ask).

mod client;
mod lines;
mod routes;
mod server;
mod socket;
mod source;
mod trace;

pub use client::{ClientError, get};
pub use lines::{AnswerLines, post_lines};
pub use routes::{ErrorBody, Section, router};
pub use server::{Api, ApiError, serve};
pub use source::{Source, StatusRequest, Unavailable};
pub use trace::{INJECT, TRACE};

/// Where the API is, unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/vswitch/api.sock";
