//! Makes inputs from seeds: a small set of mutations that have found parser bugs for decades.

/// Longest input: a little more than any datagram of a real path, so that length fields can lie in both directions.
const MAX_LEN: usize = 2048;

/// SplitMix64 with the mutations on top.
pub struct Mutator {
    state: u64,
    unit: usize,
}

impl Mutator {
    /// `unit`: what inputs are made of, in bytes. Programs are cut between operations only.
    pub fn new(seed: u64, unit: usize) -> Self {
        Mutator { state: seed, unit }
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
            let len = self.below(longest).next_multiple_of(self.unit);
            return self.random_bytes(len);
        }
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(8) {
            self.mutate(&mut input, seeds);
        }
        input.truncate(MAX_LEN);
        input
    }

    /// Changes an input once.
    pub fn mutate(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        if self.unit > 1 && self.below(3) > 0 {
            return self.rearrange(input, seeds);
        }
        if input.is_empty() {
            input.push(self.random() as u8);
            return;
        }
        let at = self.below(input.len());
        let kinds = if self.unit > 1 { 4 } else { 9 };
        match self.below(kinds) {
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

    /// Takes out, repeats, moves, makes up or borrows operations of a program; its head stays.
    fn rearrange(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let unit = self.unit;
        input.resize(input.len().next_multiple_of(unit).max(unit), 0);
        let count = input.len() / unit;
        let at = unit * (1 + self.below(count));
        let some =
            |random: &mut Self, from: usize, len: usize| from..(from + unit * (1 + random.below(6))).min(len).max(from);
        match self.below(5) {
            0 if count > 2 => {
                let cut = some(self, at.min(input.len() - unit), input.len());
                input.drain(cut);
            }
            1 if count > 1 => {
                let from = unit * (1 + self.below(count - 1));
                let copy = input[some(self, from, input.len())].to_vec();
                input.splice(at..at, copy);
            }
            2 if count > 2 => {
                let from = unit * (1 + self.below(count - 1));
                let moved: Vec<u8> = input.drain(from..from + unit).collect();
                let to = unit * (1 + self.below(count - 1));
                input.splice(to..to, moved);
            }
            3 if !seeds.is_empty() => {
                let other = &seeds[self.below(seeds.len())];
                let from = unit * self.below(other.len() / unit);
                let copy = other[some(self, from, other.len())].to_vec();
                input.splice(at..at, copy);
            }
            _ => {
                let made_up = self.random_bytes(unit);
                input.splice(at..at, made_up);
            }
        }
    }
}
