//! RTP fixed header and header extension block (RFC 3550 section 5, RFC 8285).
//!
//! ```text
//!  0                   1                   2                   3
//! |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//! |                           timestamp                           |
//! |                             SSRC                              |
//! |                       CSRC (0 to 15) ...                      |
//! |  profile: 0xBEDE or 0x100x    |     length in 32-bit words    |   when X
//! |                     extension elements ...                    |
//! ```

use crate::bytes::{Writer, u16_at, u32_at};
use crate::{Ssrc, WireError};

/// Length of the fixed header without CSRCs and extension.
pub const FIXED_HEADER_LEN: usize = 12;
/// Profile value of one-byte extension elements (RFC 8285 section 4.2).
pub const ONE_BYTE_PROFILE: u16 = 0xbede;
/// Profile value of two-byte extension elements with zero "appbits" (RFC 8285 section 4.3).
pub const TWO_BYTE_PROFILE: u16 = 0x1000;

/// A parsed RTP header: plain values and offsets. It does not borrow the packet, so that the packet can be decrypted or
/// rewritten in place while the header is at hand; accessors that need bytes take the packet again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// Marker bit: for video the last packet of a frame, for audio the first after silence.
    pub marker: bool,
    /// Payload type, 0..=127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence_number: u16,
    /// Media timestamp in clock-rate units.
    pub timestamp: u32,
    /// Sender's synchronisation source.
    pub ssrc: Ssrc,
    /// P bit. The count byte it announces is encrypted in SRTP: see [`RtpHeader::payload`].
    pub has_padding: bool,
    /// Bytes before the payload: fixed header, CSRCs, extension block.
    pub header_len: usize,
    extension: Option<ExtensionBlock>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ExtensionBlock {
    profile: u16,
    start: usize,
}

impl RtpHeader {
    /// Reads the header of a (still encrypted or plain) packet.
    ///
    /// Errors: `Truncated` when the header does not fit, `Version` when V is not 2.
    pub fn parse(packet: &[u8]) -> Result<RtpHeader, WireError> {
        if packet.len() < FIXED_HEADER_LEN {
            return Err(WireError::Truncated);
        }
        if packet[0] >> 6 != 2 {
            return Err(WireError::Version);
        }
        let mut header_len = FIXED_HEADER_LEN + 4 * (packet[0] & 0x0f) as usize;
        let mut extension = None;
        if packet[0] & 0x10 != 0 {
            let profile = u16_at(packet, header_len)?;
            let words = u16_at(packet, header_len + 2)?;
            let start = header_len + 4;
            extension = Some(ExtensionBlock { profile, start });
            header_len = start + 4 * words as usize;
        }
        if header_len > packet.len() {
            return Err(WireError::Truncated);
        }
        Ok(RtpHeader {
            marker: packet[1] & 0x80 != 0,
            payload_type: packet[1] & 0x7f,
            sequence_number: u16_at(packet, 2)?,
            timestamp: u32_at(packet, 4)?,
            ssrc: Ssrc(u32_at(packet, 8)?),
            has_padding: packet[0] & 0x20 != 0,
            header_len,
            extension,
        })
    }

    /// Payload of a decrypted packet without its padding. Empty for a packet of padding only.
    ///
    /// Errors: `Length` when the padding count is zero or exceeds the payload.
    pub fn payload<'a>(&self, packet: &'a [u8]) -> Result<&'a [u8], WireError> {
        let body = packet.get(self.header_len..).ok_or(WireError::Truncated)?;
        if !self.has_padding {
            return Ok(body);
        }
        match body.last() {
            Some(&count) if count > 0 && count as usize <= body.len() => Ok(&body[..body.len() - count as usize]),
            _ => Err(WireError::Length),
        }
    }

    /// Extension elements in order. `packet` must be the bytes this header was parsed from (decrypted or not).
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> ExtensionIter<'a> {
        let Some(block) = self.extension else { return ExtensionIter::empty() };
        let data = packet.get(block.start..self.header_len).unwrap_or(&[]);
        let form = match block.profile {
            ONE_BYTE_PROFILE => Form::OneByte,
            p if p & 0xfff0 == TWO_BYTE_PROFILE => Form::TwoByte,
            // Another profile's block (e.g. a vendor's) has no elements we could name.
            _ => return ExtensionIter::empty(),
        };
        ExtensionIter { packet_offset: block.start, data, at: 0, form }
    }

    /// First element with the given id.
    pub fn extension<'a>(&self, packet: &'a [u8], id: u8) -> Option<&'a [u8]> {
        self.extensions(packet).find(|e| e.id == id).map(|e| e.data)
    }

    /// Whether an extension block is present, whatever its form.
    pub fn has_extension_block(&self) -> bool {
        self.extension.is_some()
    }
}

/// One header extension element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// Local identifier negotiated by `a=extmap`, 1..=14 (one-byte form) or 1..=255 (two-byte form).
    pub id: u8,
    /// Value bytes.
    pub data: &'a [u8],
    /// Where the value starts in the packet, for overwriting it in place.
    pub offset: usize,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    OneByte,
    TwoByte,
}

/// Iterator over extension elements; see [`RtpHeader::extensions`]. An element that runs past the block ends it.
#[derive(Clone, Debug)]
pub struct ExtensionIter<'a> {
    packet_offset: usize,
    data: &'a [u8],
    at: usize,
    form: Form,
}

impl ExtensionIter<'_> {
    fn empty() -> Self {
        ExtensionIter { packet_offset: 0, data: &[], at: 0, form: Form::OneByte }
    }
}

impl<'a> Iterator for ExtensionIter<'a> {
    type Item = Extension<'a>;

    fn next(&mut self) -> Option<Extension<'a>> {
        loop {
            let &first = self.data.get(self.at)?;
            if first == 0 {
                self.at += 1; // padding byte
                continue;
            }
            let (id, len, start) = match self.form {
                // Id 15 is reserved and stops processing (RFC 8285 section 4.2).
                Form::OneByte if first >> 4 == 15 => return self.stop(),
                Form::OneByte => (first >> 4, (first & 0x0f) as usize + 1, self.at + 1),
                Form::TwoByte => (first, *self.data.get(self.at + 1)? as usize, self.at + 2),
            };
            let Some(data) = self.data.get(start..start + len) else { return self.stop() };
            self.at = start + len;
            if id == 0 {
                continue; // one-byte form: id 0 with a length is still padding
            }
            return Some(Extension { id, data, offset: self.packet_offset + start });
        }
    }
}

impl<'a> ExtensionIter<'a> {
    fn stop(&mut self) -> Option<Extension<'a>> {
        self.at = self.data.len();
        None
    }
}

/// Values of an RTP header to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderFields {
    /// Marker bit.
    pub marker: bool,
    /// Payload type, 0..=127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence_number: u16,
    /// Media timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: Ssrc,
    /// P bit; the caller writes the padding and its count after the payload.
    pub padding: bool,
}

/// Writes a header without CSRCs and returns its length. Elements go in one-byte form where every id is at most 14 and
/// every value 1..=16 bytes long, otherwise in two-byte form. No elements: no extension block.
///
/// Nothing is written behind the returned length: what the caller put where the payload goes survives. The length is the
/// caller's to compare with the place it kept for the header.
///
/// Errors: `NoSpace`; `Value` for id 0, a value longer than 255 bytes, or more elements than the block can count.
pub fn write_header(buf: &mut [u8], fields: &HeaderFields, exts: &[(u8, &[u8])]) -> Result<usize, WireError> {
    let mut w = Writer::new(buf);
    let x = if exts.is_empty() { 0 } else { 0x10 };
    w.u8(0x80 | x | if fields.padding { 0x20 } else { 0 })?;
    w.u8(fields.payload_type & 0x7f | if fields.marker { 0x80 } else { 0 })?;
    w.u16(fields.sequence_number)?;
    w.u32(fields.timestamp)?;
    w.u32(fields.ssrc.0)?;
    if exts.is_empty() {
        return Ok(w.len());
    }
    if exts.iter().any(|(id, data)| *id == 0 || data.len() > 255) {
        return Err(WireError::Value);
    }
    let one_byte = exts.iter().all(|(id, data)| *id <= 14 && (1..=16).contains(&data.len()));
    w.u16(if one_byte { ONE_BYTE_PROFILE } else { TWO_BYTE_PROFILE })?;
    w.u16(0)?; // length, known below
    for (id, data) in exts {
        if one_byte {
            w.u8(id << 4 | (data.len() - 1) as u8)?;
        } else {
            w.u8(*id)?;
            w.u8(data.len() as u8)?;
        }
        w.put(data)?;
    }
    w.pad4()?;
    let len = w.len();
    let words = u16::try_from((len - FIXED_HEADER_LEN - 4) / 4).map_err(|_| WireError::Value)?;
    w.written()[FIXED_HEADER_LEN + 2..FIXED_HEADER_LEN + 4].copy_from_slice(&words.to_be_bytes());
    Ok(len)
}

/// Overwrites the payload type, keeping the marker. This and the other setters leave bytes that cannot be an RTP packet
/// (fewer than [`FIXED_HEADER_LEN`]) as they are.
pub fn set_payload_type(packet: &mut [u8], payload_type: u8) {
    if let Some(header) = fixed_header(packet) {
        header[1] = header[1] & 0x80 | payload_type & 0x7f;
    }
}

/// Overwrites the sequence number.
pub fn set_sequence_number(packet: &mut [u8], sequence_number: u16) {
    if let Some(header) = fixed_header(packet) {
        header[2..4].copy_from_slice(&sequence_number.to_be_bytes());
    }
}

/// Overwrites the SSRC.
pub fn set_ssrc(packet: &mut [u8], ssrc: Ssrc) {
    if let Some(header) = fixed_header(packet) {
        header[8..12].copy_from_slice(&ssrc.0.to_be_bytes());
    }
}

fn fixed_header(packet: &mut [u8]) -> Option<&mut [u8; FIXED_HEADER_LEN]> {
    packet.first_chunk_mut()
}
