//! The wall clock by which certificates are judged: the system's, or a test's.

use core::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// Says what time it is. Wall clock, so it may step; nothing but certificates is measured by it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The system's.
    #[must_use]
    pub fn system() -> Self {
        Self::new(SystemTime::now)
    }

    /// One that is told.
    #[must_use]
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Now. A clock before 1970 says 1970, at which no certificate is valid yet.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        let since = (self.0)().duration_since(UNIX_EPOCH);
        UnixTime::since_unix_epoch(since.unwrap_or(Duration::ZERO))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.now())
    }
}
