//! What a program says about a picture, which travels behind the encoded frame.

use greenroom_codecs::video::VideoCodec;
use greenroom_wire::{annexb, trailer};

use crate::error::PeerError;

/// Fields that are not there were not set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrameMetadata {
    pub timestamp_us: Option<u64>,
    pub frame_id: Option<u32>,
    pub user_data: Vec<u8>,
}

impl FrameMetadata {
    /// The trailer that says so; empty when there is nothing to say.
    pub(crate) fn trailer(&self) -> Result<Vec<u8>, PeerError> {
        let mut buf = [0; trailer::MAX_LEN];
        let len = trailer::write(self.timestamp_us, self.frame_id, &self.user_data, &mut buf).map_err(|_| {
            PeerError::invalid(format!(
                "frame metadata takes at most {} bytes in all; there are {} of user data",
                trailer::MAX_LEN,
                self.user_data.len()
            ))
        })?;
        Ok(buf[..len].to_vec())
    }
}

/// A trailer that may follow a frame of `codec`. The few whose inverted bytes hold a start code would break an H264 frame in
/// two: that frame goes without.
pub(crate) fn fits(codec: VideoCodec, trailer: &[u8]) -> bool {
    codec != VideoCodec::H264 || !annexb::has_start_code(trailer)
}

/// The length of the picture in `frame`, and what follows it.
pub(crate) fn split(frame: &[u8]) -> (usize, Option<FrameMetadata>) {
    let Some(found) = trailer::Trailer::parse(frame) else { return (frame.len(), None) };
    let metadata = FrameMetadata {
        timestamp_us: found.timestamp_us,
        frame_id: found.frame_id,
        user_data: found.user_data().map(Iterator::collect).unwrap_or_default(),
    };
    (frame.len() - found.len, Some(metadata))
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_codecs::video::{I420, VideoSettings, decoder, encoder};

    fn said() -> FrameMetadata {
        FrameMetadata { timestamp_us: Some(1), frame_id: Some(2), user_data: b"three".to_vec() }
    }

    #[test]
    fn what_is_said_is_split_off_again() {
        let trailer = said().trailer().unwrap();
        let frame = [b"picture", &trailer[..]].concat();
        assert_eq!(split(&frame), (7, Some(said())));
        assert_eq!(split(b"picture"), (7, None));
        assert_eq!(FrameMetadata::default().trailer().unwrap(), []);
        assert!(FrameMetadata { user_data: vec![0; 249], ..said() }.trailer().is_err());
    }

    /// Real frames of both codecs with something behind them that only looks like a trailer.
    #[test]
    fn a_malformed_trailer_is_no_trailer() {
        let settings = VideoSettings { width: 64, height: 48, bitrate: 200_000, fps: 30.0, screencast: false };
        for codec in [VideoCodec::Vp8, VideoCodec::H264] {
            let encoded = encoder(codec, settings).unwrap().encode(&I420::new(64, 48), 0, true).unwrap().unwrap();
            let good = said().trailer().unwrap();
            // Longer than the frame, shorter than its fields, cut off, without the length.
            for bad in [&b"\x00LKTS"[..], &[&good[..8], &[!13], b"LKTS"].concat(), &good[..20], b"LKTS"] {
                let frame = [&encoded.data, bad].concat();
                assert_eq!(split(&frame), (frame.len(), None), "{bad:02x?}");
                assert!(decoder(codec).unwrap().decode(&frame).unwrap().is_some(), "{codec:?} {bad:02x?}");
            }
        }
    }

    #[test]
    fn start_codes_do_not_go_behind_h264() {
        let odd =
            FrameMetadata { timestamp_us: Some(0x6_00ff_fffe_0000), ..FrameMetadata::default() }.trailer().unwrap();
        assert!(fits(VideoCodec::Vp8, &odd) && !fits(VideoCodec::H264, &odd));
        assert!(fits(VideoCodec::H264, &said().trailer().unwrap()));
    }
}
