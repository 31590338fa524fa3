//! A worker's books: what came in equals what went out, at every burst boundary.

use serde::Serialize;

use super::verdict::{Class, Verdict};

/// Packet counts of one worker since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// Taken from receive queues.
    pub received: u64,
    /// Made by the switch itself (ICMP "too big").
    pub generated: u64,
    /// Further copies of a packet (head-end replication, flooding).
    pub copied: u64,
    /// Taken over from other workers.
    pub handed_in: u64,
    /// Left through a port.
    pub sent: u64,
    /// Discarded for a reason.
    pub dropped: u64,
    /// Ended here on purpose.
    pub consumed: u64,
    /// Passed to other workers.
    pub handed_out: u64,
    /// In the worker's hands at the time of the snapshot.
    pub held: u64,
}

impl Books {
    /// Whether in = out.
    pub fn balance(&self) -> bool {
        self.received + self.generated + self.copied + self.handed_in
            == self.sent + self.dropped + self.consumed + self.handed_out + self.held
    }
}

/// How many packets ended in each verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdicts([u64; Verdict::COUNT]);

impl Default for Verdicts {
    fn default() -> Self {
        Verdicts([0; Verdict::COUNT])
    }
}

impl Verdicts {
    /// Counts `n` packets.
    #[inline]
    pub fn add(&mut self, verdict: Verdict, n: u64) {
        self.0[verdict as usize] += n;
    }

    /// The count of one verdict.
    pub fn get(&self, verdict: Verdict) -> u64 {
        self.0[verdict as usize]
    }

    /// The count of a whole class.
    pub fn of_class(&self, class: Class) -> u64 {
        Verdict::ALL
            .iter()
            .filter(|v| v.class() == class)
            .map(|v| self.get(*v))
            .sum()
    }

    /// Those that are not zero.
    pub fn iter(&self) -> impl Iterator<Item = (Verdict, u64)> + '_ {
        Verdict::ALL
            .iter()
            .map(|v| (*v, self.get(*v)))
            .filter(|(_, n)| *n != 0)
    }

    /// Adds another worker's counts.
    pub fn merge(&mut self, other: &Verdicts) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_partition_the_verdicts() {
        let mut verdicts = Verdicts::default();
        for v in Verdict::ALL {
            verdicts.add(*v, 1);
        }
        let sum: u64 = [
            Class::Sent,
            Class::Consumed,
            Class::HandedOut,
            Class::Dropped,
        ]
        .into_iter()
        .map(|c| verdicts.of_class(c))
        .sum();
        assert_eq!(sum, Verdict::COUNT as u64);
    }

    #[test]
    fn an_unbalanced_book_is_seen() {
        let mut books = Books {
            received: 3,
            copied: 1,
            sent: 2,
            dropped: 1,
            held: 1,
            ..Books::default()
        };
        assert!(books.balance());
        books.sent += 1;
        assert!(!books.balance());
    }
}
