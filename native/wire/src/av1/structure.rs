//! Template dependency structure (appendix A.8.3): the layers of a stream and which decode targets need which frame.

use super::bits::Bits;
use crate::WireError;

/// Limits of the specification's field widths.
pub(super) const MAX_TEMPLATES: usize = 64;
pub(super) const MAX_DECODE_TARGETS: usize = 32;
const MAX_SPATIAL: usize = 4;

/// What a frame means to a decode target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeTargetIndication {
    /// Not part of the target.
    NotPresent,
    /// Part of it, and nothing later refers to it.
    Discardable,
    /// A receiver may begin to receive the target here.
    Switch,
    /// Part of it.
    Required,
}

impl DecodeTargetIndication {
    fn from_bits(bits: u64) -> Self {
        match bits & 3 {
            0 => DecodeTargetIndication::NotPresent,
            1 => DecodeTargetIndication::Discardable,
            2 => DecodeTargetIndication::Switch,
            _ => DecodeTargetIndication::Required,
        }
    }
}

/// Indications of all decode targets, two bits each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Indications(u64);

impl Indications {
    pub(super) fn read(bits: &mut Bits<'_>, targets: u8) -> Result<Self, WireError> {
        let mut packed = 0;
        for target in 0..targets {
            packed |= (bits.take(2)? as u64) << (2 * target);
        }
        Ok(Indications(packed))
    }

    pub(super) fn get(self, target: u8) -> DecodeTargetIndication {
        DecodeTargetIndication::from_bits(self.0.checked_shr(2 * target as u32).unwrap_or(0))
    }
}

/// One template: a kind of frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// The frame refers to earlier ones by default; a template without references is that of a key frame.
    pub has_references: bool,
    pub(super) indications: Indications,
}

/// A decode target: a set of layers a receiver can ask for, named by the highest ones it includes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeTarget {
    /// Highest spatial layer.
    pub spatial: u8,
    /// Highest temporal layer.
    pub temporal: u8,
}

/// The structure sent with each key frame; later descriptors refer to its templates. About 1.2 kB: keep one per stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DependencyStructure {
    template_id_offset: u8,
    template_count: u8,
    target_count: u8,
    templates: [Template; MAX_TEMPLATES],
    targets: [DecodeTarget; MAX_DECODE_TARGETS],
    resolution_count: u8,
    resolutions: [(u16, u16); MAX_SPATIAL],
}

impl DependencyStructure {
    pub(super) fn read(bits: &mut Bits<'_>) -> Result<Self, WireError> {
        let mut s = DependencyStructure {
            template_id_offset: bits.take(6)? as u8,
            template_count: 0,
            target_count: bits.take(5)? as u8 + 1,
            templates: [Template::default(); MAX_TEMPLATES],
            targets: [DecodeTarget::default(); MAX_DECODE_TARGETS],
            resolution_count: 0,
            resolutions: [(0, 0); MAX_SPATIAL],
        };
        s.read_layers(bits)?;
        let count = s.template_count as usize;
        for template in &mut s.templates[..count] {
            template.indications = Indications::read(bits, s.target_count)?;
        }
        for template in &mut s.templates[..count] {
            while bits.flag()? {
                bits.take(4)?; // a frame distance; which frames exactly is the decoder's business
                template.has_references = true;
            }
        }
        s.skip_chains(bits)?;
        s.derive_targets();
        if bits.flag()? {
            let highest = s.templates[..count].iter().map(|t| t.spatial).max().unwrap_or(0);
            s.resolution_count = highest + 1;
            for resolution in &mut s.resolutions[..=highest as usize] {
                // Fields hold one less, so that 65536 fits; such a size saturates here.
                *resolution = ((bits.take(16)? as u16).saturating_add(1), (bits.take(16)? as u16).saturating_add(1));
            }
        }
        Ok(s)
    }

    /// Layers are coded as steps from one template to the next.
    fn read_layers(&mut self, bits: &mut Bits<'_>) -> Result<(), WireError> {
        let (mut spatial, mut temporal) = (0, 0);
        loop {
            let slot = self.templates.get_mut(self.template_count as usize).ok_or(WireError::Value)?;
            *slot = Template { spatial, temporal, ..Template::default() };
            self.template_count += 1;
            match bits.take(2)? {
                0 => {}
                1 => temporal += 1,
                2 => {
                    temporal = 0;
                    spatial += 1;
                }
                _ => return Ok(()),
            }
            if spatial as usize >= MAX_SPATIAL || temporal > 7 {
                return Err(WireError::Value);
            }
        }
    }

    fn skip_chains(&self, bits: &mut Bits<'_>) -> Result<(), WireError> {
        let targets = self.target_count as u32;
        let chains = bits.non_symmetric(targets + 1)?;
        if chains == 0 {
            return Ok(());
        }
        for _ in 0..targets {
            bits.non_symmetric(chains)?; // the chain that protects the target
        }
        for _ in 0..self.template_count as u32 * chains {
            bits.take(4)?; // distance to the previous frame of the chain
        }
        Ok(())
    }

    fn derive_targets(&mut self) {
        for (index, target) in self.targets[..self.target_count as usize].iter_mut().enumerate() {
            for template in &self.templates[..self.template_count as usize] {
                if template.indications.get(index as u8) != DecodeTargetIndication::NotPresent {
                    target.spatial = target.spatial.max(template.spatial);
                    target.temporal = target.temporal.max(template.temporal);
                }
            }
        }
    }

    /// The template a frame's id names; `None` for an id of another structure.
    pub fn template(&self, template_id: u8) -> Option<&Template> {
        let index = template_id.wrapping_sub(self.template_id_offset) & 0x3f;
        self.templates().get(index as usize)
    }

    /// All templates.
    pub fn templates(&self) -> &[Template] {
        &self.templates[..self.template_count as usize]
    }

    /// All decode targets, in the order of the indications.
    pub fn decode_targets(&self) -> &[DecodeTarget] {
        &self.targets[..self.target_count as usize]
    }

    /// Width and height per spatial layer, lowest first; empty when not sent.
    pub fn resolutions(&self) -> &[(u16, u16)] {
        &self.resolutions[..self.resolution_count as usize]
    }
}
