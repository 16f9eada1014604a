//! The replay list of RFC 3711, 3.3.2, as a sliding window.

/// Indices the window reaches back. A key frame of a high-resolution stream and its retransmissions fit; RFC 3711
/// demands at least 64.
const SIZE: u64 = 1024;
const WORDS: usize = (SIZE / 64) as usize;

/// Remembers which of the last 1,024 packet indices were accepted.
///
/// Two steps, because only an authenticated packet may change it: [`ReplayWindow::is_fresh`] before opening,
/// [`ReplayWindow::accept`] after.
#[derive(Debug, Clone, Default)]
pub struct ReplayWindow {
    /// The highest accepted index plus one; 0 before the first.
    end: u64,
    /// Bit `index % SIZE` is set when `index` was accepted. A ring, so that advancing moves no memory.
    seen: [u64; WORDS],
}

impl ReplayWindow {
    /// As if everything up to `highest` had been accepted.
    pub fn after(highest: u64) -> Self {
        ReplayWindow { end: highest + 1, seen: [u64::MAX; WORDS] }
    }

    /// The highest accepted index.
    #[inline]
    pub fn highest(&self) -> Option<u64> {
        self.end.checked_sub(1)
    }

    /// Whether `index` was not accepted yet and is young enough to know.
    #[inline]
    pub fn is_fresh(&self, index: u64) -> bool {
        if index >= self.end {
            return true;
        }
        self.end - index <= SIZE && self.seen[word(index)] & bit(index) == 0
    }

    /// Records `index`. `false`, and nothing recorded, when it was accepted before or is too old to know.
    #[inline]
    pub fn accept(&mut self, index: u64) -> bool {
        if index >= self.end {
            if index - self.end >= SIZE {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.end..index {
                    self.seen[word(skipped)] &= !bit(skipped);
                }
            }
            self.end = index + 1;
        } else if !self.is_fresh(index) {
            return false;
        }
        self.seen[word(index)] |= bit(index);
        true
    }
}

#[inline]
fn word(index: u64) -> usize {
    (index % SIZE / 64) as usize
}

#[inline]
fn bit(index: u64) -> u64 {
    1 << (index % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_each_index_once_in_any_order() {
        let mut window = ReplayWindow::default();
        assert!(window.is_fresh(0) && window.is_fresh(u64::MAX / 2));
        for index in [5, 3, 4, 1030, 1028, 8, 7] {
            assert!(window.is_fresh(index), "{index}");
            window.accept(index);
            assert!(!window.is_fresh(index), "{index}");
        }
        assert_eq!(window.highest(), Some(1030));
        // 1030 - 1023 = 7 is the oldest index the window knows.
        assert!(!window.is_fresh(6));
        assert!(window.is_fresh(9));
    }

    #[test]
    fn after_a_number_only_higher_ones_are_fresh() {
        let mut window = ReplayWindow::after(70_000);
        assert!((69_000..=70_000).all(|index| !window.is_fresh(index)));
        assert!(window.accept(70_003) && window.accept(70_001) && !window.accept(70_001));
        assert_eq!(window.highest(), Some(70_003));
    }

    #[test]
    fn a_jump_beyond_the_window_forgets_what_was_seen() {
        let mut window = ReplayWindow::default();
        for index in 0..SIZE {
            window.accept(index);
        }
        window.accept(10 * SIZE);
        for index in 9 * SIZE + 1..10 * SIZE {
            assert!(window.is_fresh(index), "{index}");
        }
        assert!(!window.is_fresh(9 * SIZE));
    }

    /// The ring against a set that remembers everything.
    #[test]
    fn agrees_with_a_plain_set() {
        let mut window = ReplayWindow::default();
        let mut accepted = std::collections::HashSet::new();
        let mut highest = 0u64;
        let mut state = 1u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let back = (state >> 33) % 1500;
            let index = (highest + 40).saturating_sub(back);
            let fresh =
                accepted.is_empty() || index > highest || (highest - index < SIZE && !accepted.contains(&index));
            assert_eq!(window.is_fresh(index), fresh, "{index} of {highest}");
            assert_eq!(window.accept(index), fresh, "{index} of {highest}");
            if fresh {
                accepted.insert(index);
                highest = highest.max(index);
            }
        }
    }
}
