//! VP9 payload descriptor (RFC 9628 section 4.2).
//!
//! ```text
//! |I|P|L|F|B|E|V|Z|
//! |M| PICTURE ID  |           when I; two bytes when M
//! | TID |U| SID |D|           when L
//! |  TL0PICIDX    |           when L and not F
//! | P_DIFF      |N|           when F and P, up to three
//! | scalability structure |   when V
//! ```

use crate::WireError;
use crate::bytes::u16_at;

/// Bound on reference indices of one frame.
const MAX_REFERENCES: usize = 3;

/// Layer indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Temporal layer, 0..=7.
    pub tid: u8,
    /// Switching-up point: later frames of higher temporal layers do not reach behind this one.
    pub switching_up: bool,
    /// Spatial layer, 0..=7.
    pub sid: u8,
    /// The frame depends on the next lower spatial layer of the same picture.
    pub inter_layer: bool,
    /// TL0PICIDX, in non-flexible mode.
    pub tl0_pic_idx: Option<u8>,
}

/// What a scalability structure says about spatial layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scalability {
    /// Number of spatial layers, 1..=8.
    pub spatial_layers: u8,
    /// Width and height per spatial layer, lowest first; zeros when not sent.
    pub resolutions: [(u16, u16); 8],
}

/// A parsed payload descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// PictureID, 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// P: predicted from earlier pictures.
    pub inter_predicted: bool,
    /// F: flexible mode, with explicit references.
    pub flexible: bool,
    /// B: first packet of a (layer) frame.
    pub start_of_frame: bool,
    /// E: last packet of a (layer) frame.
    pub end_of_frame: bool,
    /// Z: not used by frames of higher spatial layers.
    pub not_spatial_reference: bool,
    /// Layer indices.
    pub layer: Option<Layer>,
    /// Scalability structure.
    pub scalability: Option<Scalability>,
    /// Length of the descriptor.
    pub len: usize,
}

impl Descriptor {
    /// Reads the descriptor in front of an RTP payload.
    ///
    /// Errors: `Truncated`; `Value` for more than three references.
    pub fn parse(payload: &[u8]) -> Result<Descriptor, WireError> {
        let mut r = Reader { payload, at: 0 };
        let first = r.u8()?;
        let has = |bit: u8| first & bit != 0;
        let (inter_predicted, flexible) = (has(0x40), has(0x10));
        let picture_id = if has(0x80) { Some(r.picture_id()?) } else { None };
        let layer = if has(0x20) { Some(r.layer(flexible)?) } else { None };
        if flexible && inter_predicted {
            r.skip_references()?;
        }
        let scalability = if has(0x02) { Some(r.scalability()?) } else { None };
        Ok(Descriptor {
            picture_id,
            inter_predicted,
            flexible,
            start_of_frame: has(0x08),
            end_of_frame: has(0x04),
            not_spatial_reference: has(0x01),
            layer,
            scalability,
            len: r.at,
        })
    }

    /// The packet starts a key frame: nothing earlier is needed, and it is the lowest spatial layer.
    pub fn keyframe(&self) -> bool {
        self.start_of_frame && !self.inter_predicted && self.spatial() == 0
    }

    /// Spatial layer; 0 without layer indices.
    pub fn spatial(&self) -> u8 {
        self.layer.map_or(0, |l| l.sid)
    }

    /// Temporal layer; 0 without layer indices.
    pub fn temporal(&self) -> u8 {
        self.layer.map_or(0, |l| l.tid)
    }
}

struct Reader<'a> {
    payload: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn u8(&mut self) -> Result<u8, WireError> {
        let &b = self.payload.get(self.at).ok_or(WireError::Truncated)?;
        self.at += 1;
        Ok(b)
    }

    fn u16(&mut self) -> Result<u16, WireError> {
        let v = u16_at(self.payload, self.at)?;
        self.at += 2;
        Ok(v)
    }

    fn picture_id(&mut self) -> Result<u16, WireError> {
        let first = self.u8()?;
        if first & 0x80 == 0 {
            return Ok(first as u16);
        }
        Ok((first as u16 & 0x7f) << 8 | self.u8()? as u16)
    }

    fn layer(&mut self, flexible: bool) -> Result<Layer, WireError> {
        let b = self.u8()?;
        Ok(Layer {
            tid: b >> 5,
            switching_up: b & 0x10 != 0,
            sid: b >> 1 & 7,
            inter_layer: b & 1 != 0,
            tl0_pic_idx: if flexible { None } else { Some(self.u8()?) },
        })
    }

    fn skip_references(&mut self) -> Result<(), WireError> {
        for _ in 0..MAX_REFERENCES {
            if self.u8()? & 1 == 0 {
                return Ok(());
            }
        }
        Err(WireError::Value)
    }

    fn scalability(&mut self) -> Result<Scalability, WireError> {
        let b = self.u8()?;
        let mut s = Scalability { spatial_layers: (b >> 5) + 1, ..Scalability::default() };
        if b & 0x10 != 0 {
            for resolution in &mut s.resolutions[..s.spatial_layers as usize] {
                *resolution = (self.u16()?, self.u16()?);
            }
        }
        if b & 0x08 != 0 {
            for _ in 0..self.u8()? {
                let references = self.u8()? >> 2 & 3;
                for _ in 0..references {
                    self.u8()?;
                }
            }
        }
        Ok(s)
    }
}
