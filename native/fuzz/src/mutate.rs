//! Makes inputs from seeds: a small set of mutations that have found parser bugs for decades.

/// Longest input: a little more than any datagram of a real path, so that length fields can lie in both directions.
const MAX_LEN: usize = 2048;

/// SplitMix64 with the mutations on top.
pub struct Mutator {
    state: u64,
}

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Mutator { state: seed }
    }

    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.random() % n.max(1) as u64) as usize
    }

    fn random_bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.random() as u8).collect()
    }

    /// The next input. One in eight is random bytes, the rest are seeds mutated one to eight times.
    pub fn next(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        if seeds.is_empty() || self.below(8) == 0 {
            let longest = if self.below(4) == 0 { MAX_LEN } else { 64 };
            let len = self.below(longest);
            return self.random_bytes(len);
        }
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(8) {
            self.mutate(&mut input, seeds);
        }
        input.truncate(MAX_LEN);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        if input.is_empty() {
            input.push(self.random() as u8);
            return;
        }
        let at = self.below(input.len());
        match self.below(9) {
            0 => input[at] ^= 1 << self.below(8),
            1 => input[at] = self.random() as u8,
            // Values at the edges of length fields and counters.
            2 => input[at] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][self.below(6)],
            3 => input[at] = input[at].wrapping_add(1 + self.below(4) as u8).wrapping_sub(2),
            4 => input.truncate(at),
            5 => {
                let len = 1 + self.below(8);
                let bytes = self.random_bytes(len);
                input.splice(at..at, bytes);
            }
            6 => {
                let end = (at + 1 + self.below(8)).min(input.len());
                input.drain(at..end);
            }
            7 => {
                // Repeat a stretch: lists that are longer than they say.
                let end = (at + 1 + self.below(32)).min(input.len());
                let copy = input[at..end].to_vec();
                input.splice(end..end, copy);
            }
            _ => {
                // The front of one valid input with the tail of another.
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
}
