//! Time that goes on while the machine sleeps, and that nobody sets: leases end by it.

use core::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// When something began, by `CLOCK_BOOTTIME` (clock_gettime(2)): monotonic, the time that the machine was
/// suspended included. A lease that was granted for an hour has ended behind a night with the lid closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uptime(Duration);

impl Uptime {
    /// Now.
    #[must_use]
    pub fn begin() -> Self {
        Self(now())
    }

    /// How long ago that was.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        now().saturating_sub(self.0)
    }
}

fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel says the same in /proc/uptime (proc(5)), which counts suspension. So that another clock
    /// does not pass on a machine that was never suspended, this is looked at in a time namespace
    /// (time_namespaces(7)) in which the two are a million seconds apart.
    #[test]
    fn it_is_the_kernels_uptime() {
        const INSIDE: &str = "VSWITCH_TEST_UPTIME_INSIDE";
        if std::env::var_os(INSIDE).is_none() {
            let own = std::env::current_exe().unwrap();
            let name = "uptime::tests::it_is_the_kernels_uptime";
            let status = std::process::Command::new("unshare")
                .args(["--time", "--boottime", "1000000", "--fork"])
                .arg(own)
                .args(["--exact", name])
                .env(INSIDE, "1")
                .status()
                .unwrap();
            assert!(status.success(), "unshare --time needs root");
            return;
        }
        let read = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            let seconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
            Duration::from_secs_f64(seconds)
        };
        let tick = Duration::from_millis(20);
        let before = read();
        let own = Uptime::begin().0;
        let after = read();
        assert!(before <= own + tick && own <= after + tick, "{own:?}");
        let monotonic = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap();
        assert!(own > monotonic + Duration::from_secs(900_000));
    }
}
