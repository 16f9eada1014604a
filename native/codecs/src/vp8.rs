//! VP8 (RFC 6386) with libvpx in its real-time mode.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr;

use vpx_sys::*;

use crate::CodecError;
use crate::coding::{EncodedPicture, VideoDecoder, VideoEncoder, VideoSettings};
use crate::picture::{I420, MAX_SIDE};

/// Speed over quality, on libvpx's scale of 0 to -16.
const CPU_USED: i32 = -6;
/// A key frame may be this many percent of an average frame's share of the rate.
const MAX_INTRA_PERCENT: u32 = 450;

fn check(what: &str, status: vpx_codec_err_t) -> Result<(), CodecError> {
    if status == vpx_codec_err_t::VPX_CODEC_OK {
        return Ok(());
    }
    // SAFETY: libvpx returns a static string for any status.
    let text = unsafe { CStr::from_ptr(vpx_codec_err_to_string(status)) };
    Err(CodecError::new(format!("VP8 {what}: {}", text.to_string_lossy())))
}

/// A codec context, destroyed with its owner. Boxed: libvpx keeps pointers into it.
struct Context(Box<vpx_codec_ctx_t>);

// SAFETY: a context has no tie to the thread that made it; `&mut` gives one user at a time.
unsafe impl Send for Context {}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: contexts are wrapped only after a successful init.
        unsafe { vpx_codec_destroy(&mut *self.0) };
    }
}

pub struct Vp8Encoder {
    context: Context,
    config: vpx_codec_enc_cfg_t,
    last_pts: i64,
}

// SAFETY: the configuration holds null pointers of two-pass encoding and numbers.
unsafe impl Send for Vp8Encoder {}

impl Vp8Encoder {
    pub fn new(settings: VideoSettings) -> Result<Self, CodecError> {
        let VideoSettings { width, height, bitrate, screencast, .. } = settings;
        if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
            return Err(CodecError::new(format!("VP8 does not take {width}x{height}")));
        }
        let mut config = MaybeUninit::<vpx_codec_enc_cfg_t>::uninit();
        // SAFETY: the call fills the whole structure; it is read only after success.
        let mut config = unsafe {
            check("defaults", vpx_codec_enc_config_default(vpx_codec_vp8_cx(), config.as_mut_ptr(), 0))?;
            config.assume_init()
        };
        config.g_w = width as u32;
        config.g_h = height as u32;
        config.g_threads = 1;
        config.g_timebase = vpx_rational { num: 1, den: 1_000_000 };
        config.g_pass = vpx_enc_pass::VPX_RC_ONE_PASS;
        config.g_lag_in_frames = 0;
        config.rc_end_usage = vpx_rc_mode::VPX_CBR;
        config.rc_target_bitrate = kilobits(bitrate);
        config.rc_dropframe_thresh = 0;
        config.rc_resize_allowed = 0;
        config.rc_min_quantizer = 2;
        config.rc_max_quantizer = 56;
        config.rc_undershoot_pct = 100;
        config.rc_overshoot_pct = 15;
        config.rc_buf_initial_sz = 500;
        config.rc_buf_optimal_sz = 600;
        config.rc_buf_sz = 1000;
        // Key frames are asked for, not scheduled.
        config.kf_mode = vpx_kf_mode::VPX_KF_DISABLED;
        let mut context = Box::new(MaybeUninit::<vpx_codec_ctx_t>::zeroed());
        // SAFETY: init fills the context; it becomes a `Context` only after success.
        let context = unsafe {
            let status = vpx_codec_enc_init_ver(
                context.as_mut_ptr(),
                vpx_codec_vp8_cx(),
                &config,
                0,
                VPX_ENCODER_ABI_VERSION as i32,
            );
            check("encoder", status)?;
            Context(Box::from_raw(Box::into_raw(context).cast()))
        };
        let mut encoder = Self { context, config, last_pts: -1 };
        encoder.control(vp8e_enc_control_id::VP8E_SET_CPUUSED, CPU_USED)?;
        encoder.control(vp8e_enc_control_id::VP8E_SET_STATIC_THRESHOLD, 1)?;
        encoder.control(vp8e_enc_control_id::VP8E_SET_MAX_INTRA_BITRATE_PCT, MAX_INTRA_PERCENT as i32)?;
        encoder.control(vp8e_enc_control_id::VP8E_SET_SCREEN_CONTENT_MODE, i32::from(screencast))?;
        Ok(encoder)
    }

    fn control(&mut self, id: vp8e_enc_control_id, value: i32) -> Result<(), CodecError> {
        // SAFETY: every control used here takes one int.
        check("control", unsafe { vpx_codec_control_(&mut *self.context.0, id as i32, value) })
    }
}

fn kilobits(bitrate: u32) -> u32 {
    (bitrate / 1000).max(30)
}

impl VideoEncoder for Vp8Encoder {
    fn encode(&mut self, picture: &I420, timestamp_us: i64, key: bool) -> Result<Option<EncodedPicture>, CodecError> {
        if (picture.width, picture.height) != (self.config.g_w as usize, self.config.g_h as usize) {
            return Err(CodecError::new("the picture has not the encoder's size"));
        }
        let pts = timestamp_us.max(self.last_pts + 1);
        let duration = if self.last_pts < 0 { 33_333 } else { (pts - self.last_pts).clamp(1, 1_000_000) };
        self.last_pts = pts;
        let image = wrap(picture)?;
        let flags = if key { VPX_EFLAG_FORCE_KF as vpx_enc_frame_flags_t } else { 0 };
        // SAFETY: the image points into `picture`, which outlives the call; libvpx only reads it.
        let status = unsafe {
            vpx_codec_encode(&mut *self.context.0, &image, pts, duration as u64, flags, u64::from(VPX_DL_REALTIME))
        };
        check("encoding", status)?;
        let mut iterator: vpx_codec_iter_t = ptr::null();
        let mut encoded: Option<EncodedPicture> = None;
        loop {
            // SAFETY: the iterator starts at null and belongs to this context.
            let packet = unsafe { vpx_codec_get_cx_data(&mut *self.context.0, &mut iterator) };
            if packet.is_null() {
                return Ok(encoded);
            }
            // SAFETY: a packet lives until the next encode; a frame packet has its data in `frame`.
            unsafe {
                if (*packet).kind == vpx_codec_cx_pkt_kind::VPX_CODEC_CX_FRAME_PKT {
                    let frame = &(*packet).data.frame;
                    let bytes = std::slice::from_raw_parts(frame.buf.cast::<u8>(), frame.sz as usize);
                    let key = frame.flags & VPX_FRAME_IS_KEY != 0;
                    let picture = encoded.get_or_insert_with(|| EncodedPicture { data: Vec::new(), key });
                    picture.data.extend_from_slice(bytes);
                }
            }
        }
    }

    fn set_bitrate(&mut self, bitrate: u32) -> Result<(), CodecError> {
        self.config.rc_target_bitrate = kilobits(bitrate);
        // SAFETY: the configuration is the one the context was made with, but for the rate.
        check("rate", unsafe { vpx_codec_enc_config_set(&mut *self.context.0, &self.config) })
    }
}

/// libvpx's description of a picture that stays ours.
fn wrap(picture: &I420) -> Result<vpx_image_t, CodecError> {
    let mut image = MaybeUninit::<vpx_image_t>::zeroed();
    let (width, height) = (picture.width as u32, picture.height as u32);
    let data = picture.data.as_ptr().cast_mut();
    // SAFETY: fills the structure for memory that is not touched; planes are set right below, because libvpx would
    // round odd sides differently.
    let mut image = unsafe {
        if vpx_img_wrap(image.as_mut_ptr(), vpx_img_fmt::VPX_IMG_FMT_I420, width, height, 1, data).is_null() {
            return Err(CodecError::new(format!("VP8 does not take {width}x{height}")));
        }
        image.assume_init()
    };
    let chroma = picture.chroma_width() as i32;
    for (index, plane) in picture.planes().into_iter().enumerate() {
        image.planes[index] = plane.as_ptr().cast_mut();
        image.stride[index] = if index == 0 { width as i32 } else { chroma };
    }
    Ok(image)
}

pub struct Vp8Decoder {
    context: Context,
}

impl Vp8Decoder {
    pub fn new() -> Result<Self, CodecError> {
        let mut context = Box::new(MaybeUninit::<vpx_codec_ctx_t>::zeroed());
        // SAFETY: init fills the context; it becomes a `Context` only after success.
        let context = unsafe {
            let status = vpx_codec_dec_init_ver(
                context.as_mut_ptr(),
                vpx_codec_vp8_dx(),
                ptr::null(),
                0,
                VPX_DECODER_ABI_VERSION as i32,
            );
            check("decoder", status)?;
            Context(Box::from_raw(Box::into_raw(context).cast()))
        };
        Ok(Self { context })
    }
}

impl VideoDecoder for Vp8Decoder {
    fn decode(&mut self, frame: &[u8]) -> Result<Option<I420>, CodecError> {
        // SAFETY: libvpx reads the frame during the call only.
        let status =
            unsafe { vpx_codec_decode(&mut *self.context.0, frame.as_ptr(), frame.len() as u32, ptr::null_mut(), 0) };
        check("decoding", status)?;
        let mut iterator: vpx_codec_iter_t = ptr::null();
        let mut newest = None;
        loop {
            // SAFETY: the iterator starts at null; an image lives until the next decode and is copied here.
            unsafe {
                let image = vpx_codec_get_frame(&mut *self.context.0, &mut iterator);
                if image.is_null() {
                    return Ok(newest);
                }
                newest = Some(copy(&*image)?);
            }
        }
    }
}

/// # Safety
/// The image comes from libvpx and is alive.
unsafe fn copy(image: &vpx_image_t) -> Result<I420, CodecError> {
    let (width, height) = (image.d_w as usize, image.d_h as usize);
    let good = image.fmt == vpx_img_fmt::VPX_IMG_FMT_I420 && image.stride[..3].iter().all(|stride| *stride > 0);
    if !good || width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
        return Err(CodecError::new(format!("VP8: a picture of {width}x{height}")));
    }
    let plane = |index: usize, rows: usize, columns: usize| {
        let stride = image.stride[index] as usize;
        // SAFETY: a plane has `rows` rows of `stride` bytes, the last of them at least `columns`.
        unsafe { std::slice::from_raw_parts(image.planes[index], stride * (rows - 1) + columns) }
    };
    let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
    let planes = [plane(0, height, width), plane(1, ch, cw), plane(2, ch, cw)];
    let strides = [image.stride[0] as usize, image.stride[1] as usize, image.stride[2] as usize];
    Ok(I420::from_planes(width, height, planes, strides))
}
