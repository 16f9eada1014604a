//! H264 with OpenH264: constrained baseline, one slice group per frame, Annex B.

use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, Profile, RateControlMode,
    SpsPpsStrategy, UsageType,
};
use openh264::formats::{YUVSlices, YUVSource};

use crate::CodecError;
use crate::coding::{EncodedPicture, VideoDecoder, VideoEncoder, VideoSettings};
use crate::picture::{I420, MAX_SIDE};

fn failed(error: openh264::Error) -> CodecError {
    CodecError::new(format!("H264: {error}"))
}

pub struct H264Encoder {
    inner: Encoder,
    settings: VideoSettings,
}

impl H264Encoder {
    /// Both sides of the picture are even.
    pub fn new(settings: VideoSettings) -> Result<Self, CodecError> {
        if !settings.width.is_multiple_of(2)
            || !settings.height.is_multiple_of(2)
            || settings.width < 16
            || settings.height < 16
        {
            return Err(CodecError::new(format!("H264 does not take {}x{}", settings.width, settings.height)));
        }
        Ok(Self { inner: open(settings)?, settings })
    }
}

fn open(settings: VideoSettings) -> Result<Encoder, CodecError> {
    let usage = if settings.screencast { UsageType::ScreenContentRealTime } else { UsageType::CameraVideoRealTime };
    let config = EncoderConfig::new()
        .bitrate(BitRate::from_bps(settings.bitrate.max(30_000)))
        .max_frame_rate(FrameRate::from_hz(settings.fps.clamp(1.0, 60.0)))
        .usage_type(usage)
        .rate_control_mode(RateControlMode::Bitrate)
        .skip_frames(true)
        .profile(Profile::Baseline)
        .complexity(Complexity::Low)
        .sps_pps_strategy(SpsPpsStrategy::ConstantId)
        // Key frames are asked for, not scheduled.
        .intra_frame_period(IntraFramePeriod::from_num_frames(0))
        .scene_change_detect(false)
        .background_detection(false)
        .num_threads(1);
    Encoder::with_api_config(OpenH264API::from_source(), config).map_err(failed)
}

impl VideoEncoder for H264Encoder {
    fn encode(&mut self, picture: &I420, timestamp_us: i64, key: bool) -> Result<Option<EncodedPicture>, CodecError> {
        if (picture.width, picture.height) != (self.settings.width, self.settings.height) {
            return Err(CodecError::new("the picture has not the encoder's size"));
        }
        let [y, u, v] = picture.planes();
        let chroma = picture.chroma_width();
        let source = YUVSlices::new((y, u, v), (picture.width, picture.height), (picture.width, chroma, chroma));
        if key {
            self.inner.force_intra_frame();
        }
        let timestamp = openh264::Timestamp::from_millis((timestamp_us / 1000).max(0) as u64);
        let stream = self.inner.encode_at(&source, timestamp).map_err(failed)?;
        let key = matches!(stream.frame_type(), FrameType::IDR | FrameType::I);
        if matches!(stream.frame_type(), FrameType::Skip | FrameType::Invalid) {
            return Ok(None);
        }
        let data = stream.to_vec();
        Ok((!data.is_empty()).then_some(EncodedPicture { data, key }))
    }

    fn set_bitrate(&mut self, bitrate: u32) -> Result<(), CodecError> {
        if bitrate != self.settings.bitrate {
            self.settings.bitrate = bitrate;
            self.inner = open(self.settings)?;
        }
        Ok(())
    }
}

pub struct H264Decoder {
    inner: openh264::decoder::Decoder,
}

impl H264Decoder {
    pub fn new() -> Result<Self, CodecError> {
        Ok(Self { inner: openh264::decoder::Decoder::new().map_err(failed)? })
    }
}

impl VideoDecoder for H264Decoder {
    fn decode(&mut self, frame: &[u8]) -> Result<Option<I420>, CodecError> {
        let Some(picture) = self.inner.decode(frame).map_err(failed)? else { return Ok(None) };
        let (width, height) = picture.dimensions();
        if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
            return Err(CodecError::new(format!("H264: a picture of {width}x{height}")));
        }
        let (y, u, v) = picture.strides();
        Ok(Some(I420::from_planes(width, height, [picture.y(), picture.u(), picture.v()], [y, u, v])))
    }
}
