//! Big-endian reads and writes that cannot panic.

use crate::WireError;

pub(crate) fn u16_at(buf: &[u8], at: usize) -> Result<u16, WireError> {
    let b = buf.get(at..at + 2).ok_or(WireError::Truncated)?;
    Ok(u16::from_be_bytes([b[0], b[1]]))
}

pub(crate) fn u24_at(buf: &[u8], at: usize) -> Result<u32, WireError> {
    let b = buf.get(at..at + 3).ok_or(WireError::Truncated)?;
    Ok(u32::from_be_bytes([0, b[0], b[1], b[2]]))
}

pub(crate) fn u32_at(buf: &[u8], at: usize) -> Result<u32, WireError> {
    let b = buf.get(at..at + 4).ok_or(WireError::Truncated)?;
    Ok(u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

/// A cursor over the caller's output buffer; each `put` checks the space that is left.
pub(crate) struct Writer<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(buf: &'a mut [u8]) -> Self {
        Writer { buf, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let end = self.len + bytes.len();
        self.buf.get_mut(self.len..end).ok_or(WireError::NoSpace)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    pub(crate) fn u8(&mut self, v: u8) -> Result<(), WireError> {
        self.put(&[v])
    }

    pub(crate) fn u16(&mut self, v: u16) -> Result<(), WireError> {
        self.put(&v.to_be_bytes())
    }

    pub(crate) fn u32(&mut self, v: u32) -> Result<(), WireError> {
        self.put(&v.to_be_bytes())
    }

    /// Zero bytes up to the next multiple of four.
    pub(crate) fn pad4(&mut self) -> Result<(), WireError> {
        while !self.len.is_multiple_of(4) {
            self.u8(0)?;
        }
        Ok(())
    }

    /// Bytes written so far, for fields that depend on what precedes them.
    pub(crate) fn written(&mut self) -> &mut [u8] {
        &mut self.buf[..self.len]
    }
}
