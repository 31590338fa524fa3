//! The time-stamp counter: the clock of the datapath.

use std::time::Duration;

use dpdk_sys as sys;

use super::eal::{EalError, hold};

/// The counter of this core, in ticks.
#[inline]
pub fn tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC exists on every x86-64 and only reads a counter.
    return unsafe { core::arch::x86_64::_rdtsc() };
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads a counter.
    return unsafe { sys::vs_rdtsc() };
}

/// As [`tsc`], read when all instructions before it have ended and before any behind it
/// begins, for stretches so short that it matters; costs some tens of ticks (Intel SDM, vol. 2,
/// RDTSC: LFENCE before and behind).
#[inline]
pub fn tsc_in_order() -> u64 {
    let fence = || {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: LFENCE belongs to SSE2, which every x86-64 has; it touches no memory.
        unsafe {
            core::arch::x86_64::_mm_lfence();
        }
        #[cfg(not(target_arch = "x86_64"))]
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    };
    fence();
    let ticks = tsc();
    fence();
    ticks
}

/// Converts ticks into time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TscClock {
    hz: u64,
    /// Nanoseconds per tick, in units of 2⁻³².
    scale: u64,
}

impl TscClock {
    /// With the frequency that EAL measured.
    pub fn new() -> Result<Self, EalError> {
        let _running = hold()?;
        // SAFETY: EAL runs.
        Ok(Self::with_frequency(unsafe { sys::rte_get_tsc_hz() }))
    }

    /// With a frequency in Hz; 0 counts as 1.
    pub fn with_frequency(hz: u64) -> Self {
        let hz = hz.max(1);
        let scale = (1_000_000_000u128 << 32) / u128::from(hz);
        TscClock {
            hz,
            scale: u64::try_from(scale).unwrap_or(u64::MAX),
        }
    }

    /// Ticks per second.
    pub fn hz(&self) -> u64 {
        self.hz
    }

    /// Nanoseconds of so many ticks; off by less than one in 2²⁹.
    #[inline]
    pub fn to_ns(&self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.scale)) >> 32) as u64
    }

    /// Ticks of so many nanoseconds.
    #[inline]
    pub fn from_ns(&self, ns: u64) -> u64 {
        (u128::from(ns) * u128::from(self.hz) / 1_000_000_000) as u64
    }

    /// Ticks of a duration; saturates.
    pub fn ticks(&self, duration: Duration) -> u64 {
        self.from_ns(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Whole seconds of so many ticks.
    #[inline]
    pub fn seconds(&self, ticks: u64) -> u64 {
        ticks / self.hz
    }

    /// The counter of this core as nanoseconds.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.to_ns(tsc())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_ticks_is_a_second() {
        for hz in [1_000_000, 25_000_000, 2_596_000_000, 5_000_000_000] {
            let clock = TscClock::with_frequency(hz);
            let ns = clock.to_ns(hz);
            assert!(1_000_000_000 - ns <= 2, "{hz}: {ns}");
            assert_eq!(clock.from_ns(1_000_000_000), hz);
            assert_eq!(clock.ticks(Duration::from_millis(500)), hz / 2);
        }
    }

    #[test]
    fn years_of_ticks_do_not_wrap() {
        let clock = TscClock::with_frequency(3_000_000_000);
        let ten_years = 3_000_000_000 * 86_400 * 3_650;
        let off = clock
            .to_ns(ten_years)
            .abs_diff(86_400 * 3_650 * 1_000_000_000);
        assert!(off < 1_000_000_000, "{off}");
    }

    #[test]
    fn the_counter_goes_forward() {
        let start = tsc();
        assert!((0..1000).any(|_| tsc() > start));
    }
}
