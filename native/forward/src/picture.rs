//! VP8 picture ids continuous over layer switches (RFC 7741, 4.2): a decoder takes a jump of PictureID, TL0PICIDX or
//! KEYIDX for loss.
use greenroom_wire::vp8::{Descriptor, PictureId};

/// Rewritten values of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Picture {
    /// PictureID, 15 bits.
    pub(crate) id: u16,
    /// TL0PICIDX.
    pub(crate) tl0: u8,
    /// KEYIDX, 5 bits.
    pub(crate) key: u8,
}

impl Picture {
    /// As a packet says.
    pub(crate) fn of(descriptor: &Descriptor) -> Picture {
        Picture {
            id: descriptor.picture_id.map_or(0, PictureId::value),
            tl0: descriptor.tl0_pic_idx.unwrap_or(0),
            key: descriptor.key_idx.unwrap_or(0),
        }
    }

    /// Writes these values into the fields a descriptor has. Short picture ids become long: the other layer's were.
    pub(crate) fn apply(&self, descriptor: &mut Descriptor) {
        if descriptor.picture_id.is_some() {
            descriptor.picture_id = Some(PictureId::Long(self.id));
        }
        descriptor.tl0_pic_idx = descriptor.tl0_pic_idx.map(|_| self.tl0);
        descriptor.key_idx = descriptor.key_idx.map(|_| self.key);
    }
}

/// What is added, and the newest values given out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PictureContinuity {
    shift: Picture,
    newest: Option<Picture>,
}

impl PictureContinuity {
    /// Continues after the newest values with the picture of a packet from another source.
    pub(crate) fn switch(&mut self, picture: Picture) {
        if let Some(newest) = self.newest {
            self.shift = Picture {
                id: newest.id.wrapping_add(1).wrapping_sub(picture.id) & 0x7fff,
                tl0: newest.tl0.wrapping_add(1).wrapping_sub(picture.tl0),
                key: newest.key.wrapping_add(1).wrapping_sub(picture.key) & 0x1f,
            };
        }
    }

    /// The values to send; `None` when they are those of the packet.
    pub(crate) fn map(&mut self, picture: Picture) -> Option<Picture> {
        let out = Picture {
            id: picture.id.wrapping_add(self.shift.id) & 0x7fff,
            tl0: picture.tl0.wrapping_add(self.shift.tl0),
            key: picture.key.wrapping_add(self.shift.key) & 0x1f,
        };
        let forward = |newest: Picture| out.id.wrapping_sub(newest.id) & 0x7fff;
        if self.newest.is_none_or(|newest| (1..0x4000).contains(&forward(newest))) {
            self.newest = Some(out);
        }
        (out != picture).then_some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(id: u16, tl0: u8, key: u8) -> Picture {
        Picture { id, tl0, key }
    }

    #[test]
    fn the_first_source_passes_unchanged() {
        let mut continuity = PictureContinuity::default();
        continuity.switch(picture(5, 1, 2));
        assert_eq!(continuity.map(picture(5, 1, 2)), None);
        assert_eq!(continuity.map(picture(6, 1, 3)), None);
    }

    #[test]
    fn a_switch_continues_after_the_newest() {
        let mut continuity = PictureContinuity::default();
        continuity.map(picture(0x7ffe, 255, 31));
        continuity.map(picture(0x7ffd, 255, 31));
        continuity.switch(picture(100, 7, 3));
        assert_eq!(continuity.map(picture(100, 7, 3)), Some(picture(0x7fff, 0, 0)));
        assert_eq!(continuity.map(picture(101, 8, 3)), Some(picture(0, 1, 0)));
    }

    #[test]
    fn rewriting_widens_short_ids_and_leaves_absent_fields_absent() {
        let mut descriptor = Descriptor { picture_id: Some(PictureId::Short(3)), ..Descriptor::default() };
        picture(300, 1, 1).apply(&mut descriptor);
        assert_eq!(descriptor.picture_id, Some(PictureId::Long(300)));
        assert_eq!((descriptor.tl0_pic_idx, descriptor.key_idx), (None, None));
    }
}
