//! VP8 payload descriptor (RFC 7741 section 4.2).
//!
//! ```text
//! |X|R|N|S|R| PID |   required
//! |I|L|T|K|  RSV  |   when X
//! |M| PictureID   |   when I; two bytes when M
//! |   TL0PICIDX   |   when L
//! |TID|Y| KEYIDX  |   when T or K
//! ```
//!
//! A forwarder that switches between simulcast layers, or drops temporal layers, must make picture id, TL0PICIDX and
//! KEYIDX continuous again. Values are changed in a parsed [`Descriptor`] and written by [`Descriptor::write`]; a picture
//! id may change its width, and with it the descriptor its length.

use crate::WireError;
use crate::bytes::{Writer, u16_at};

/// A picture id with the width it was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureId {
    /// 7 bits.
    Short(u8),
    /// 15 bits.
    Long(u16),
}

impl PictureId {
    /// The number without its width.
    pub fn value(self) -> u16 {
        match self {
            PictureId::Short(v) => v as u16,
            PictureId::Long(v) => v,
        }
    }
}

/// Temporal layer fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Temporal {
    /// Temporal layer, 0..=3.
    pub tid: u8,
    /// The frame depends on layer 0 only: a receiver may switch up to this layer here.
    pub layer_sync: bool,
}

/// Width and height that a key frame states (RFC 6386 section 9.1), without the scaling that a viewer may apply. `frame` is
/// whole and begins behind the payload descriptor. None for other frames and for what is no VP8.
pub fn picture_size(frame: &[u8]) -> Option<(u16, u16)> {
    let head: &[u8; 10] = frame.first_chunk()?;
    if head[0] & 1 != 0 || head[3..6] != [0x9d, 0x01, 0x2a] {
        return None;
    }
    let side = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]) & 0x3fff;
    Some((side(6), side(8))).filter(|(width, height)| *width > 0 && *height > 0)
}

/// A parsed payload descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// N: no later frame refers to this one.
    pub non_reference: bool,
    /// S: the packet starts a partition.
    pub start_of_partition: bool,
    /// PID: partition index, 0..=7.
    pub partition: u8,
    /// PictureID.
    pub picture_id: Option<PictureId>,
    /// TL0PICIDX.
    pub tl0_pic_idx: Option<u8>,
    /// TID and Y.
    pub temporal: Option<Temporal>,
    /// KEYIDX, 0..=31.
    pub key_idx: Option<u8>,
    /// Not a descriptor field: the packet is the first of a key frame.
    pub keyframe: bool,
    /// Length of the descriptor as it was parsed.
    pub len: usize,
}

impl Descriptor {
    /// Reads the descriptor in front of an RTP payload.
    ///
    /// Errors: `Truncated` when the descriptor does not fit or nothing follows it.
    pub fn parse(payload: &[u8]) -> Result<Descriptor, WireError> {
        let byte = |at: usize| payload.get(at).copied().ok_or(WireError::Truncated);
        let first = byte(0)?;
        let mut d = Descriptor {
            non_reference: first & 0x20 != 0,
            start_of_partition: first & 0x10 != 0,
            partition: first & 0x07,
            len: 1,
            ..Descriptor::default()
        };
        if first & 0x80 != 0 {
            let flags = byte(1)?;
            d.len = 2;
            if flags & 0x80 != 0 {
                let id = byte(d.len)?;
                if id & 0x80 != 0 {
                    d.picture_id = Some(PictureId::Long(u16_at(payload, d.len)? & 0x7fff));
                    d.len += 2;
                } else {
                    d.picture_id = Some(PictureId::Short(id));
                    d.len += 1;
                }
            }
            if flags & 0x40 != 0 {
                d.tl0_pic_idx = Some(byte(d.len)?);
                d.len += 1;
            }
            if flags & 0x30 != 0 {
                let b = byte(d.len)?;
                d.len += 1;
                if flags & 0x20 != 0 {
                    d.temporal = Some(Temporal { tid: b >> 6, layer_sync: b & 0x20 != 0 });
                }
                if flags & 0x10 != 0 {
                    d.key_idx = Some(b & 0x1f);
                }
            }
        }
        // The payload header's P bit is inverted: 0 is a key frame (RFC 7741 section 4.3).
        let header = byte(d.len)?;
        d.keyframe = d.starts_frame() && header & 1 == 0;
        Ok(d)
    }

    /// First packet of a frame.
    pub fn starts_frame(&self) -> bool {
        self.start_of_partition && self.partition == 0
    }

    /// Writes the descriptor and returns its length. Reserved bits are zero.
    pub fn write(&self, buf: &mut [u8]) -> Result<usize, WireError> {
        let mut w = Writer::new(buf);
        let flags = (self.picture_id.is_some() as u8) << 7
            | (self.tl0_pic_idx.is_some() as u8) << 6
            | (self.temporal.is_some() as u8) << 5
            | (self.key_idx.is_some() as u8) << 4;
        w.u8(((flags != 0) as u8 * 0x80)
            | ((self.non_reference as u8) << 5)
            | (self.start_of_partition as u8) << 4
            | self.partition & 7)?;
        if flags != 0 {
            w.u8(flags)?;
        }
        match self.picture_id {
            Some(PictureId::Short(id)) => w.u8(id & 0x7f)?,
            Some(PictureId::Long(id)) => w.u16(id | 0x8000)?,
            None => {}
        }
        if let Some(idx) = self.tl0_pic_idx {
            w.u8(idx)?;
        }
        if self.temporal.is_some() || self.key_idx.is_some() {
            let layer = self.temporal.map_or(0, |t| t.tid << 6 | (t.layer_sync as u8) << 5);
            w.u8(layer | self.key_idx.unwrap_or(0) & 0x1f)?;
        }
        Ok(w.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_key_frames() {
        let key = [0x10, 2, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x40];
        assert_eq!(picture_size(&key), Some((320, 240)));
        assert_eq!(picture_size(&key[..9]), None);
        assert_eq!(picture_size(&[0x11, 2, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x40]), None);
        assert_eq!(picture_size(&[0x10, 2, 0, 0x9d, 0x01, 0x2b, 0x40, 0x01, 0xf0, 0x40]), None);
        assert_eq!(picture_size(&[0x10, 2, 0, 0x9d, 0x01, 0x2a, 0, 0, 0xf0, 0x40]), None);
    }
}
