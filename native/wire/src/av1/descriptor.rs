//! The dependency descriptor header extension (appendix A.8.2).
//!
//! It tells a forwarder about a frame without looking into the payload, which also works when that is end-to-end
//! encrypted or of another codec. Three mandatory bytes come first; the rest refers to, or carries, a structure.

use super::bits::Bits;
use super::structure::{DecodeTargetIndication, DependencyStructure, Indications};
use crate::WireError;

const MANDATORY_LEN: usize = 3;

/// The mandatory fields, and whether a structure is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DependencyDescriptor {
    /// First packet of a frame.
    pub start_of_frame: bool,
    /// Last packet of a frame.
    pub end_of_frame: bool,
    /// Template of the frame, 0..=63.
    pub template_id: u8,
    /// Frame counter of the stream.
    pub frame_number: u16,
    /// A structure is attached: the packet belongs to a key frame.
    pub has_structure: bool,
    /// The mask of active decode targets changes here.
    has_active_targets: bool,
    custom_indications: bool,
}

impl DependencyDescriptor {
    /// Reads the mandatory fields and flags of an extension value.
    pub fn parse(data: &[u8]) -> Result<DependencyDescriptor, WireError> {
        Self::read(&mut Bits::new(data), data.len())
    }

    fn read(bits: &mut Bits<'_>, len: usize) -> Result<DependencyDescriptor, WireError> {
        let mut d = DependencyDescriptor {
            start_of_frame: bits.flag()?,
            end_of_frame: bits.flag()?,
            template_id: bits.take(6)? as u8,
            frame_number: bits.take(16)? as u16,
            has_structure: false,
            has_active_targets: false,
            custom_indications: false,
        };
        if len > MANDATORY_LEN {
            d.has_structure = bits.flag()?;
            d.has_active_targets = bits.flag()?;
            d.custom_indications = bits.flag()?;
            bits.take(2)?; // custom references and chains come after all we read
        }
        Ok(d)
    }

    /// The attached structure, if any, to be kept for the frames that follow.
    pub fn structure(data: &[u8]) -> Result<Option<DependencyStructure>, WireError> {
        let mut bits = Bits::new(data);
        if !Self::read(&mut bits, data.len())?.has_structure {
            return Ok(None);
        }
        DependencyStructure::read(&mut bits).map(Some)
    }

    /// Layers and indications of the frame, by the structure last received (which is the attached one when there is).
    ///
    /// Errors: `Value` when the template is not of this structure: the key frame was missed.
    pub fn frame(data: &[u8], structure: &DependencyStructure) -> Result<Frame, WireError> {
        let mut bits = Bits::new(data);
        let d = Self::read(&mut bits, data.len())?;
        let targets = structure.decode_targets().len() as u8;
        let active_targets = if d.has_structure {
            DependencyStructure::read(&mut bits)?; // only to get behind it
            // All targets are active after a new structure unless a mask follows.
            Some(u32::MAX >> (32 - targets as u32))
        } else {
            None
        };
        let active_targets = if d.has_active_targets { Some(bits.take(targets as u32)?) } else { active_targets };
        let template = structure.template(d.template_id).ok_or(WireError::Value)?;
        let indications =
            if d.custom_indications { Indications::read(&mut bits, targets)? } else { template.indications };
        Ok(Frame { spatial: template.spatial, temporal: template.temporal, active_targets, indications })
    }
}

/// What a descriptor says about its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// New mask of the decode targets being produced, bit i for target i; `None` when it stays as it was.
    pub active_targets: Option<u32>,
    indications: Indications,
}

impl Frame {
    /// What the frame means to a decode target.
    pub fn indication(&self, target: u8) -> DecodeTargetIndication {
        self.indications.get(target)
    }
}
