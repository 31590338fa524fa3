//! Who opens packets of which SPI: one array, in which an SPI is found with one wait for memory, and
//! its place can be asked for beforehand.

use super::command::WorkerId;
use crate::dpdk::cache;

/// Where an SPI's packets are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Located {
    /// Here, by the SA in this slot.
    Mine(usize),
    /// By another worker.
    Colleague(WorkerId),
}

/// An SPI and where it is. Zero is no SPI of ours (RFC 4303, section 2.1), and stands for none.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    spi: u32,
    /// A slot, or [`COLLEAGUE`] and a worker.
    place: u32,
}

const COLLEAGUE: u32 = 1 << 31;
const SMALLEST: usize = 64;

/// SPIs by open addressing. SPIs come from the wire: a seeded multiply-fold keeps chains short
/// whatever is sent, and at most half of the entries are used.
pub struct SpiTable {
    seed: u64,
    /// A power of two of them.
    entries: Box<[Entry]>,
    used: usize,
}

impl SpiTable {
    /// Empty. The seed is random and secret.
    pub fn new(seed: u64) -> Self {
        SpiTable {
            seed,
            entries: vec![Entry::default(); SMALLEST].into(),
            used: 0,
        }
    }

    #[inline(always)]
    fn home(&self, spi: u32) -> usize {
        let product = u128::from(self.seed ^ u64::from(spi)) * 0x9e37_79b9_7f4a_7c15;
        ((product >> 64) as u64 ^ product as u64) as usize & (self.entries.len() - 1)
    }

    /// Asks for the memory that [`Self::get`] will read.
    #[inline(always)]
    pub fn prefetch(&self, spi: u32) {
        if let Some(entry) = self.entries.get(self.home(spi)) {
            cache::prefetch(entry);
        }
    }

    /// The index of an SPI's entry, or of the free one at which it would be.
    #[inline(always)]
    fn find(&self, spi: u32) -> (usize, Entry) {
        let mut index = self.home(spi);
        loop {
            let entry = self.entries.get(index).copied().unwrap_or_default();
            if entry.spi == spi || entry.spi == 0 {
                return (index, entry);
            }
            index = (index + 1) & (self.entries.len() - 1);
        }
    }

    /// Who opens packets of this SPI.
    #[inline(always)]
    pub fn get(&self, spi: u32) -> Option<Located> {
        let (_, entry) = self.find(spi);
        if entry.spi == 0 {
            return None;
        }
        Some(match entry.place & COLLEAGUE {
            0 => Located::Mine(entry.place as usize),
            _ => Located::Colleague(entry.place as WorkerId),
        })
    }

    /// Notes where an SPI other than zero is.
    pub fn insert(&mut self, spi: u32, located: Located) {
        if spi == 0 {
            return;
        }
        if (self.used + 1) * 2 > self.entries.len() {
            self.rehash(self.entries.len() * 2);
        }
        let place = match located {
            // Of slots of hundreds of bytes there are never 2^31.
            Located::Mine(slot) => slot as u32 & !COLLEAGUE,
            Located::Colleague(worker) => u32::from(worker) | COLLEAGUE,
        };
        let (index, before) = self.find(spi);
        self.used += usize::from(before.spi == 0);
        if let Some(entry) = self.entries.get_mut(index) {
            *entry = Entry { spi, place };
        }
    }

    /// Forgets an SPI. What is behind it in its chain moves up.
    pub fn remove(&mut self, spi: u32) {
        let (mut hole, entry) = self.find(spi);
        if spi == 0 || entry.spi == 0 {
            return;
        }
        self.used -= 1;
        let mask = self.entries.len() - 1;
        let mut index = hole;
        loop {
            index = (index + 1) & mask;
            let entry = self.entries.get(index).copied().unwrap_or_default();
            if entry.spi == 0 {
                break;
            }
            // It may not move before its home.
            let distance = index.wrapping_sub(self.home(entry.spi)) & mask;
            if distance >= index.wrapping_sub(hole) & mask {
                if let Some(place) = self.entries.get_mut(hole) {
                    *place = entry;
                }
                hole = index;
            }
        }
        if let Some(place) = self.entries.get_mut(hole) {
            *place = Entry::default();
        }
    }

    fn rehash(&mut self, len: usize) {
        let old = std::mem::replace(&mut self.entries, vec![Entry::default(); len].into());
        for entry in old.iter().filter(|entry| entry.spi != 0) {
            let (index, _) = self.find(entry.spi);
            if let Some(place) = self.entries.get_mut(index) {
                *place = *entry;
            }
        }
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn every_seed_finds_every_spi_without_long_chains() {
        for seed in [0, 1, 0x5eed_0123_4567_89ab, u64::MAX] {
            let mut table = SpiTable::new(seed);
            let spis = || (256..4352).chain([u32::MAX]);
            spis().for_each(|spi| table.insert(spi, Located::Mine(spi as usize >> 1)));
            for spi in spis() {
                assert_eq!(table.get(spi), Some(Located::Mine(spi as usize >> 1)));
            }
            let chain = |spi| {
                let (index, _) = table.find(spi);
                index.wrapping_sub(table.home(spi)) & (table.entries.len() - 1)
            };
            let total: usize = spis().map(chain).sum();
            assert!(total < 4097, "{seed:#x}: {total}");
            assert_eq!(table.get(0), None);
            assert_eq!(table.get(255), None);
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map(
            seed: u64,
            steps in prop::collection::vec((1_u32..200, prop::option::of((any::<bool>(), 0_u16..999))), 0..400),
        ) {
            let mut table = SpiTable::new(seed);
            let mut model = HashMap::new();
            for (spi, change) in steps {
                match change {
                    None => {
                        table.remove(spi);
                        model.remove(&spi);
                    }
                    Some((mine, n)) => {
                        let located = match mine {
                            true => Located::Mine(n.into()),
                            false => Located::Colleague(n),
                        };
                        table.insert(spi, located);
                        model.insert(spi, located);
                    }
                }
                prop_assert_eq!(table.used, model.len());
                for spi in 0..200 {
                    prop_assert_eq!(table.get(spi), model.get(&spi).copied());
                }
            }
        }
    }
}
