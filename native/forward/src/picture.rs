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

/// Pictures with short ids that come late are so many behind at most.
const LATE: u16 = 16;

/// What is added, and the newest values given out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PictureContinuity {
    shift: Picture,
    newest: Option<Picture>,
    /// PictureID of the newest packet that came: what short ids, of 7 bits, are extended by.
    came: u16,
}

impl PictureContinuity {
    /// Goes on from what an earlier stream on the same SSRC gave out.
    pub(crate) fn after(newest: Option<Picture>) -> Self {
        PictureContinuity { newest, ..PictureContinuity::default() }
    }

    /// The newest values given out.
    pub(crate) fn newest(&self) -> Option<Picture> {
        self.newest
    }

    /// Continues after the newest values with the picture of a packet from another source.
    pub(crate) fn switch(&mut self, picture: Picture) {
        self.came = picture.id;
        if let Some(newest) = self.newest {
            self.shift = Picture {
                id: newest.id.wrapping_add(1).wrapping_sub(picture.id) & 0x7fff,
                tl0: newest.tl0.wrapping_add(1).wrapping_sub(picture.tl0),
                key: newest.key.wrapping_add(1).wrapping_sub(picture.key) & 0x1f,
            };
        }
    }

    /// The values to send; `None` when they are those of the packet. Short ids are always sent as long ones: what is added
    /// does not stay within 7 bits, and receivers that know long ones only take their end for a jump.
    pub(crate) fn map(&mut self, picture: Picture, is_short: bool) -> Option<Picture> {
        let mut id = picture.id;
        if is_short && self.newest.is_some() {
            // The id with these 7 bits that is a little before the newest, or anything after it: pictures get lost more often
            // than they come late.
            let ahead = id.wrapping_sub(self.came) & 0x7f;
            let step = if ahead > 0x7f - LATE { ahead as i16 - 0x80 } else { ahead as i16 };
            id = self.came.wrapping_add_signed(step) & 0x7fff;
        }
        if (id.wrapping_sub(self.came) & 0x7fff) < 0x4000 {
            self.came = id;
        }
        let out = Picture {
            id: id.wrapping_add(self.shift.id) & 0x7fff,
            tl0: picture.tl0.wrapping_add(self.shift.tl0),
            key: picture.key.wrapping_add(self.shift.key) & 0x1f,
        };
        let forward = |newest: Picture| out.id.wrapping_sub(newest.id) & 0x7fff;
        if self.newest.is_none_or(|newest| (1..0x4000).contains(&forward(newest))) {
            self.newest = Some(out);
        }
        (is_short || out != picture).then_some(out)
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
        assert_eq!(continuity.map(picture(5, 1, 2), false), None);
        assert_eq!(continuity.map(picture(6, 1, 3), false), None);
    }

    #[test]
    fn a_switch_continues_after_the_newest() {
        let mut continuity = PictureContinuity::default();
        continuity.map(picture(0x7ffe, 255, 31), false);
        continuity.map(picture(0x7ffd, 255, 31), false);
        continuity.switch(picture(100, 7, 3));
        assert_eq!(continuity.map(picture(100, 7, 3), false), Some(picture(0x7fff, 0, 0)));
        assert_eq!(continuity.map(picture(101, 8, 3), false), Some(picture(0, 1, 0)));
    }

    #[test]
    fn short_ids_become_long_ones_that_go_on() {
        let mut continuity = PictureContinuity::default();
        continuity.switch(picture(120, 0, 0));
        let mut ids = Vec::new();
        for came in (120..500u16).chain([498, 500]) {
            ids.push(continuity.map(picture(came & 0x7f, 0, 0), true).unwrap().id);
        }
        assert_eq!(ids, (120..500).chain([498, 500]).collect::<Vec<_>>());
        // A hundred pictures are lost.
        assert_eq!(continuity.map(picture(600 & 0x7f, 0, 0), true).unwrap().id, 600);
        // Another source, and back over the end of 15 bits.
        continuity.newest = Some(picture(0x7fff, 0, 0));
        continuity.switch(picture(126, 0, 0));
        let next = [126, 127, 0, 127].map(|came| continuity.map(picture(came, 0, 0), true).unwrap().id);
        assert_eq!(next, [0, 1, 2, 1]);
    }

    #[test]
    fn a_stream_goes_on_from_an_earlier_one() {
        let mut continuity = PictureContinuity::after(Some(picture(7, 8, 9)));
        continuity.switch(picture(100, 1, 1));
        assert_eq!(continuity.map(picture(100, 1, 1), false), Some(picture(8, 9, 10)));
        assert_eq!(continuity.newest(), Some(picture(8, 9, 10)));
    }

    #[test]
    fn rewriting_widens_short_ids_and_leaves_absent_fields_absent() {
        let mut descriptor = Descriptor { picture_id: Some(PictureId::Short(3)), ..Descriptor::default() };
        picture(300, 1, 1).apply(&mut descriptor);
        assert_eq!(descriptor.picture_id, Some(PictureId::Long(300)));
        assert_eq!((descriptor.tl0_pic_idx, descriptor.key_idx), (None, None));
    }
}
