//! Packet trailers: what a program says about a picture, behind the encoded frame (LiveKit's `packet_trailer_features`).
//!
//! ```text
//! | encoded frame | tag | len | value | ... | total length | "LKTS" |
//! ```
//!
//! Fields are tag, length and value, in big endian. Every byte in front of the magic is inverted, so that most values hold no
//! Annex B start code. The total length counts the trailer from its first tag to the end of the magic, in one byte: a
//! trailer has at most 255 bytes. Fields with other tags are stepped over.

use crate::WireError;
use crate::bytes::Writer;

/// The longest trailer.
pub const MAX_LEN: usize = 255;

const MAGIC: &[u8; 4] = b"LKTS";
/// The total length and the magic.
const ENVELOPE: usize = 5;
const TIMESTAMP: u8 = 1;
const FRAME_ID: u8 = 2;
const USER_DATA: u8 = 3;

/// A trailer found at the end of a frame. Fields that it does not have are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trailer<'a> {
    /// Microseconds, of whatever clock the program chose.
    pub timestamp_us: Option<u64>,
    /// The program's number of the frame.
    pub frame_id: Option<u32>,
    /// Still inverted, as on the wire.
    inverted: Option<&'a [u8]>,
    /// Bytes at the end of the frame that are no picture.
    pub len: usize,
}

impl<'a> Trailer<'a> {
    /// Looks at the end of an encoded frame.
    ///
    /// None for a frame without a trailer, or with one whose lengths do not fill it exactly: such a frame is all picture.
    /// When a tag is repeated the last counts, and a known tag with a length that is not its own counts as unknown.
    pub fn parse(frame: &'a [u8]) -> Option<Trailer<'a>> {
        let before_magic = frame.strip_suffix(MAGIC)?;
        let (&total, _) = before_magic.split_last()?;
        let len = usize::from(!total);
        let mut fields = frame.get(frame.len().checked_sub(len)?..frame.len().checked_sub(ENVELOPE)?)?;
        if fields.is_empty() {
            return None;
        }
        let mut trailer = Trailer { len, ..Trailer::default() };
        while !fields.is_empty() {
            let (&[tag, size], rest) = fields.split_first_chunk()?;
            let (value, rest) = rest.split_at_checked(usize::from(!size))?;
            fields = rest;
            match (!tag, value) {
                (TIMESTAMP, value) if value.len() == 8 => trailer.timestamp_us = Some(big_endian(value)),
                (FRAME_ID, value) if value.len() == 4 => trailer.frame_id = Some(big_endian(value) as u32),
                (USER_DATA, value) => trailer.inverted = Some(value),
                _ => {}
            }
        }
        Some(trailer)
    }

    /// Bytes of the program.
    pub fn user_data(&self) -> Option<impl ExactSizeIterator<Item = u8> + use<'a>> {
        Some(self.inverted?.iter().map(|b| !b))
    }
}

fn big_endian(inverted: &[u8]) -> u64 {
    inverted.iter().fold(0, |value, b| value << 8 | u64::from(!b))
}

/// Writes a trailer and returns its length: 0 when there is nothing to say. Empty user data is not written.
///
/// Errors: `Length` (more than 255 bytes in all), `NoSpace`.
pub fn write(
    timestamp_us: Option<u64>,
    frame_id: Option<u32>,
    user_data: &[u8],
    buf: &mut [u8],
) -> Result<usize, WireError> {
    let mut w = Writer::new(buf);
    if let Some(timestamp) = timestamp_us {
        field(&mut w, TIMESTAMP, &timestamp.to_be_bytes())?;
    }
    if let Some(id) = frame_id {
        field(&mut w, FRAME_ID, &id.to_be_bytes())?;
    }
    if !user_data.is_empty() {
        field(&mut w, USER_DATA, user_data)?;
    }
    if w.len() == 0 {
        return Ok(0);
    }
    let total = u8::try_from(w.len() + ENVELOPE).map_err(|_| WireError::Length)?;
    w.written().iter_mut().for_each(|b| *b = !*b);
    w.u8(!total)?;
    w.put(MAGIC)?;
    Ok(w.len())
}

fn field(w: &mut Writer<'_>, tag: u8, value: &[u8]) -> Result<(), WireError> {
    let len = u8::try_from(value.len()).map_err(|_| WireError::Length)?;
    w.put(&[tag, len])?;
    w.put(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(timestamp: Option<u64>, id: Option<u32>, data: &[u8]) -> Vec<u8> {
        let mut buf = [0; MAX_LEN];
        let len = write(timestamp, id, data, &mut buf).unwrap();
        buf[..len].to_vec()
    }

    fn read(trailer: &Trailer<'_>) -> (Option<u64>, Option<u32>, Option<Vec<u8>>, usize) {
        (trailer.timestamp_us, trailer.frame_id, trailer.user_data().map(Iterator::collect), trailer.len)
    }

    /// As official clients write them: both numbers, and user data alone.
    #[test]
    fn bytes_on_the_wire() {
        let both = [
            0xfe, 0xf7, 0xff, 0xff, 0xff, 0xff, 0xf8, 0xa4, 0x32, 0xea, // timestamp 123456789
            0xfd, 0xfb, 0xff, 0xff, 0xff, 0xb2, // frame 77
            0xea, b'L', b'K', b'T', b'S', // 21 in all
        ];
        assert_eq!(written(Some(123_456_789), Some(77), b""), both);
        let frame = [&b"picture"[..], &both].concat();
        assert_eq!(read(&Trailer::parse(&frame).unwrap()), (Some(123_456_789), Some(77), None, 21));
        let data = written(None, None, b"hi");
        assert_eq!(data, [0xfc, 0xfd, !b'h', !b'i', !9, b'L', b'K', b'T', b'S']);
        assert_eq!(read(&Trailer::parse(&data).unwrap()), (None, None, Some(b"hi".to_vec()), 9));
    }

    #[test]
    fn what_is_written_is_read() {
        for timestamp in [None, Some(0), Some(u64::MAX)] {
            for id in [None, Some(0), Some(u32::MAX)] {
                for data in [&b""[..], b"x", &[0xff; 232], &[0; 232]] {
                    let frame = [&b"LKTS"[..], &written(timestamp, id, data)].concat();
                    let Some(trailer) = Trailer::parse(&frame) else {
                        assert!(timestamp.is_none() && id.is_none() && data.is_empty());
                        continue;
                    };
                    let data = (!data.is_empty()).then(|| data.to_vec());
                    assert_eq!(read(&trailer), (timestamp, id, data, frame.len() - 4));
                }
            }
        }
    }

    #[test]
    fn too_long() {
        let mut buf = [0; 600];
        assert_eq!(write(None, None, &[1; 248], &mut buf), Ok(255));
        assert_eq!(write(None, None, &[1; 249], &mut buf), Err(WireError::Length));
        assert_eq!(write(Some(1), Some(1), &[1; 233], &mut buf), Err(WireError::Length));
        assert_eq!(write(None, None, &[1; 300], &mut buf), Err(WireError::Length));
        assert_eq!(write(Some(1), None, &[], &mut buf[..14]), Err(WireError::NoSpace));
    }

    #[test]
    fn unknown_and_repeated_fields() {
        let trailer = |fields: &[u8]| {
            let mut bytes: Vec<u8> = fields.iter().map(|b| !b).collect();
            bytes.push(!(fields.len() as u8 + 5));
            bytes.extend(MAGIC);
            bytes
        };
        let bytes = trailer(&[9, 3, 1, 2, 3, 2, 4, 0, 0, 0, 1, 2, 4, 0, 0, 0, 5, 1, 2, 7, 7]);
        assert_eq!(read(&Trailer::parse(&bytes).unwrap()), (None, Some(5), None, bytes.len()));
        for malformed in [&[][..], &[2], &[2, 4, 0, 0, 0], &[2, 4, 0, 0, 0, 1, 3], &[3, 255, 0]] {
            assert_eq!(Trailer::parse(&trailer(malformed)), None, "{malformed:?}");
        }
    }

    #[test]
    fn not_a_trailer() {
        for frame in [&b""[..], b"LKTS", b"xLKTS", b"\x00LKTS", b"\xfaLKTS", b"\xfeLKTS", b"a picture", b"\xfa\xf0LKTX"]
        {
            assert_eq!(Trailer::parse(frame), None, "{frame:?}");
        }
    }
}
