//! Wrapping sequence arithmetic (RFC 1982, as RTP uses it in RFC 3550 appendix A.1).

/// True when `a` comes after `b` on the 32-bit circle, for RTP timestamps. The two opposite points (distance 2^31) count
/// as not newer.
pub const fn newer32(a: u32, b: u32) -> bool {
    let distance = a.wrapping_sub(b);
    distance != 0 && distance < 0x8000_0000
}

/// Signed distance from `b` to `a`, in -32768..=32767.
pub const fn diff16(a: u16, b: u16) -> i16 {
    a.wrapping_sub(b) as i16
}

/// Signed distance from `b` to `a`.
pub const fn diff32(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

/// The 64-bit number ending in `low` that lies nearest to `reference`.
///
/// Numbers never go below zero: near the start a backward step that would is read as a forward one.
pub const fn extend16(reference: u64, low: u16) -> u64 {
    let step = diff16(low, reference as u16) as i64;
    match reference.checked_add_signed(step) {
        Some(v) => v,
        None => reference.wrapping_add(low.wrapping_sub(reference as u16) as u64),
    }
}

/// Follows a 16-bit counter through its wraps. The first value is placed one lap up (at 2^16 + value), so that packets
/// older than the first one still have a place below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unwrap16 {
    highest: Option<u64>,
}

impl Unwrap16 {
    /// Nothing seen yet.
    pub const fn new() -> Self {
        Unwrap16 { highest: None }
    }

    /// Extended number of `low`; moves the highest number forward when `low` is newer.
    pub fn unwrap(&mut self, low: u16) -> u64 {
        let extended = self.peek(low);
        self.highest = Some(self.highest.map_or(extended, |h| h.max(extended)));
        extended
    }

    /// What [`unwrap`](Self::unwrap) would return, without recording it. Use it before a packet is authenticated.
    pub fn peek(&self, low: u16) -> u64 {
        match self.highest {
            Some(h) => extend16(h, low),
            None => 0x1_0000 + low as u64,
        }
    }

    /// Highest extended number so far.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_is_a_half_circle() {
        let table = [
            (1, 0, true),
            (0, 1, false),
            (0, 0, false),
            (0, u32::MAX, true),
            (u32::MAX, 0, false),
            (0x7fff_ffff, 0, true),
            (0x8000_0000, 0, false),
            (0, 0x8000_0000, false),
        ];
        for (a, b, newer) in table {
            assert_eq!(newer32(a, b), newer, "{a} after {b}");
        }
    }

    #[test]
    fn distances_are_signed() {
        assert_eq!(diff16(2, 65534), 4);
        assert_eq!(diff16(65534, 2), -4);
        assert_eq!(diff32(2, u32::MAX - 1), 4);
    }

    #[test]
    fn unwrap_follows_laps_in_both_directions() {
        let mut u = Unwrap16::new();
        let table = [
            (65534, 0x1fffe),
            (65535, 0x1ffff),
            (0, 0x20000),
            (65533, 0x1fffd),
            (2, 0x20002),
            (1, 0x20001),
            (0x8001, 0x28001),
            (0xffff, 0x2ffff),
            (3, 0x30003),
        ];
        for (low, extended) in table {
            assert_eq!(u.peek(low), extended, "peek {low}");
            assert_eq!(u.unwrap(low), extended, "unwrap {low}");
        }
        assert_eq!(u.highest(), Some(0x30003));
    }

    #[test]
    fn never_below_zero() {
        assert_eq!(extend16(0, 0xffff), 0xffff);
    }

    #[test]
    fn no_overflow_at_the_top() {
        // A reference this high cannot come from the wire, but the arithmetic must not panic on it.
        assert_eq!(extend16(u64::MAX - 0xffff, 0xffff), u64::MAX - 0x1_0000);
    }
}
