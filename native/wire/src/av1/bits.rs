//! Bit reader for the dependency descriptor, most significant bit first.

use crate::WireError;

#[derive(Clone, Debug)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Bits { data, at: 0 }
    }

    pub(super) fn flag(&mut self) -> Result<bool, WireError> {
        let byte = self.data.get(self.at / 8).ok_or(WireError::Truncated)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit != 0)
    }

    /// An unsigned number of at most 32 bits, `f(n)` of the specification.
    pub(super) fn take(&mut self, n: u32) -> Result<u32, WireError> {
        let mut value = 0;
        for _ in 0..n {
            value = value << 1 | self.flag()? as u32;
        }
        Ok(value)
    }

    /// A number below `n`, coded in as few bits as its value allows, `ns(n)` of the specification.
    pub(super) fn non_symmetric(&mut self, n: u32) -> Result<u32, WireError> {
        let width = 32 - n.leading_zeros();
        let short_values = (1u32 << width) - n;
        let value = self.take(width.saturating_sub(1))?;
        if value < short_values {
            return Ok(value);
        }
        Ok((value << 1 | self.take(1)?) - short_values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_symmetric_table_of_the_specification() {
        // ns(5): 0..=2 in two bits, 3 and 4 in three.
        let table = [(0b0000_0000, 0), (0b0100_0000, 1), (0b1000_0000, 2), (0b1100_0000, 3), (0b1110_0000, 4)];
        for (byte, value) in table {
            assert_eq!(Bits::new(&[byte]).non_symmetric(5), Ok(value));
        }
        // ns(1) takes no bits.
        assert_eq!(Bits::new(&[]).non_symmetric(1), Ok(0));
    }
}
