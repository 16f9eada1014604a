//! The eleven pixel formats of the participant SDK and all 121 conversions between them.
//!
//! RGB formats name the order of bytes in memory. YUV is BT.601 in limited range, as WebRTC's codecs take it. Between RGB
//! formats bytes are only moved; between YUV formats only chroma is resampled; nothing takes a detour that loses more.

use std::borrow::Cow;

use yuv::{
    BufferStoreMut, YuvConversionMode, YuvError, YuvPlanarImage, YuvPlanarImageMut, YuvRange, YuvStandardMatrix,
};

use crate::CodecError;
use crate::video::{I420, MAX_SIDE};

/// Values as in `VideoBufferType` of the LiveKit protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PixelFormat {
    Rgba = 0,
    Abgr = 1,
    Argb = 2,
    Bgra = 3,
    Rgb24 = 4,
    I420 = 5,
    I420A = 6,
    I422 = 7,
    I444 = 8,
    I010 = 9,
    Nv12 = 10,
}

use PixelFormat::*;

impl PixelFormat {
    pub const ALL: [Self; 11] = [Rgba, Abgr, Argb, Bgra, Rgb24, I420, I420A, I422, I444, I010, Nv12];

    pub fn from_value(value: i64) -> Result<Self, CodecError> {
        usize::try_from(value)
            .ok()
            .and_then(|index| Self::ALL.get(index).copied())
            .ok_or_else(|| CodecError::new(format!("there is no pixel format {value}")))
    }

    fn is_rgb(self) -> bool {
        matches!(self, Rgba | Abgr | Argb | Bgra | Rgb24)
    }

    /// Bytes per row and rows of each plane, in their order in memory.
    fn planes(self, width: usize, height: usize) -> Vec<(usize, usize)> {
        let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
        match self {
            Rgba | Abgr | Argb | Bgra => vec![(width * 4, height)],
            Rgb24 => vec![(width * 3, height)],
            PixelFormat::I420 => vec![(width, height), (cw, ch), (cw, ch)],
            I420A => vec![(width, height), (cw, ch), (cw, ch), (width, height)],
            I422 => vec![(width, height), (cw, height), (cw, height)],
            I444 => vec![(width, height); 3],
            I010 => vec![(width * 2, height), (cw * 2, ch), (cw * 2, ch)],
            Nv12 => vec![(width, height), (cw * 2, ch)],
        }
    }

    /// Bytes of a tightly packed picture.
    pub fn size(self, width: usize, height: usize) -> usize {
        self.planes(width, height).into_iter().map(|(row, rows)| row * rows).sum()
    }

    /// Where the bytes of red, green, blue and (if any) alpha are in a pixel.
    fn order(self) -> (usize, [usize; 4]) {
        match self {
            Abgr => (4, [3, 2, 1, 0]),
            Argb => (4, [1, 2, 3, 0]),
            Bgra => (4, [2, 1, 0, 3]),
            Rgb24 => (3, [0, 1, 2, usize::MAX]),
            _ => (4, [0, 1, 2, 3]),
        }
    }
}

/// How many pixels share a chroma sample, across and down.
type Subsampling = (usize, usize);
const S420: Subsampling = (2, 2);
const S422: Subsampling = (2, 1);
const S444: Subsampling = (1, 1);

struct Planes<'a> {
    width: usize,
    height: usize,
    chroma: Subsampling,
    y: Cow<'a, [u8]>,
    u: Cow<'a, [u8]>,
    v: Cow<'a, [u8]>,
    alpha: Option<Cow<'a, [u8]>>,
}

/// One picture in another format, optionally upside down. Buffers are tightly packed.
pub fn convert(
    data: &[u8],
    width: usize,
    height: usize,
    from: PixelFormat,
    to: PixelFormat,
    flip_y: bool,
) -> Result<Vec<u8>, CodecError> {
    check(data, width, height, from)?;
    let mut out = match (from.is_rgb(), to.is_rgb()) {
        _ if from == to => data.to_vec(),
        (true, true) => shuffle(data, from, to),
        (false, false) => write_planes(read_planes(data, width, height, from), to),
        (true, false) => {
            let chroma = match to {
                I422 => S422,
                I444 => S444,
                _ => S420,
            };
            write_planes(rgb_to_planes(data, width, height, from, chroma)?, to)
        }
        (false, true) => planes_to_rgb(read_planes(data, width, height, from), to)?,
    };
    if flip_y {
        flip(&mut out, &to.planes(width, height));
    }
    Ok(out)
}

/// One picture as the encoders take it.
pub fn to_i420(data: &[u8], width: usize, height: usize, from: PixelFormat) -> Result<I420, CodecError> {
    Ok(I420 { width, height, data: convert(data, width, height, from, PixelFormat::I420, false)? })
}

fn check(data: &[u8], width: usize, height: usize, format: PixelFormat) -> Result<(), CodecError> {
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
        return Err(CodecError::new(format!("a picture of {width}x{height}; sides are 1 to {MAX_SIDE}")));
    }
    let expected = format.size(width, height);
    if data.len() != expected {
        return Err(CodecError::new(format!(
            "{width}x{height} in format {format:?} takes {expected} bytes, not {}",
            data.len()
        )));
    }
    Ok(())
}

fn flip(data: &mut [u8], planes: &[(usize, usize)]) {
    let mut rest = data;
    for (row, rows) in planes {
        let (plane, after) = rest.split_at_mut(row * rows);
        for top in 0..rows / 2 {
            let (head, tail) = plane.split_at_mut((rows - 1 - top) * row);
            head[top * row..(top + 1) * row].swap_with_slice(&mut tail[..*row]);
        }
        rest = after;
    }
}

fn shuffle(data: &[u8], from: PixelFormat, to: PixelFormat) -> Vec<u8> {
    let ((step, source), (out_step, target)) = (from.order(), to.order());
    let mut out = vec![255; data.len() / step * out_step];
    // Constant sizes let the compiler turn the loop into byte shuffles.
    match (step, out_step) {
        (4, 4) => {
            let mut map = [0; 4];
            (0..4).for_each(|channel| map[target[channel]] = source[channel]);
            for (pixel, bytes) in out.chunks_exact_mut(4).zip(data.chunks_exact(4)) {
                (0..4).for_each(|index| pixel[index] = bytes[map[index]]);
            }
        }
        _ => {
            for (pixel, bytes) in out.chunks_exact_mut(out_step).zip(data.chunks_exact(step)) {
                (0..3).for_each(|channel| pixel[target[channel]] = bytes[source[channel]]);
            }
        }
    }
    out
}

fn split<'a>(data: &'a [u8], format: PixelFormat, width: usize, height: usize) -> Vec<&'a [u8]> {
    let mut rest = data;
    let mut planes = Vec::with_capacity(4);
    for (row, rows) in format.planes(width, height) {
        let (plane, after) = rest.split_at(row * rows);
        planes.push(plane);
        rest = after;
    }
    planes
}

fn read_planes(data: &[u8], width: usize, height: usize, format: PixelFormat) -> Planes<'_> {
    let planes = split(data, format, width, height);
    let plain = |index: usize| Cow::Borrowed(planes[index]);
    // Little endian, the value in the low ten bits.
    let ten = |index: usize| -> Cow<'_, [u8]> {
        planes[index].chunks_exact(2).map(|p| (u16::from_le_bytes([p[0], p[1]]) >> 2).min(255) as u8).collect()
    };
    let (y, u, v, alpha) = match format {
        I010 => (ten(0), ten(1), ten(2), None),
        Nv12 => {
            let pairs = planes[1].chunks_exact(2);
            (plain(0), pairs.clone().map(|p| p[0]).collect(), pairs.map(|p| p[1]).collect(), None)
        }
        I420A => (plain(0), plain(1), plain(2), Some(plain(3))),
        _ => (plain(0), plain(1), plain(2), None),
    };
    let chroma = match format {
        I422 => S422,
        I444 => S444,
        _ => S420,
    };
    Planes { width, height, chroma, y, u, v, alpha }
}

fn write_planes(planes: Planes<'_>, format: PixelFormat) -> Vec<u8> {
    let Planes { width, height, chroma, y, u, v, alpha } = planes;
    let wanted = match format {
        I422 => S422,
        I444 => S444,
        _ => S420,
    };
    let u = resample(u, width, height, chroma, wanted);
    let v = resample(v, width, height, chroma, wanted);
    let mut out = Vec::with_capacity(format.size(width, height));
    match format {
        I010 => {
            for plane in [y, u, v] {
                out.extend(plane.iter().flat_map(|value| (u16::from(*value) << 2).to_le_bytes()));
            }
        }
        Nv12 => {
            out.extend_from_slice(&y);
            out.extend(u.iter().zip(v.iter()).flat_map(|(u, v)| [*u, *v]));
        }
        _ => {
            [y, u, v].iter().for_each(|plane| out.extend_from_slice(plane));
            if format == I420A {
                match alpha {
                    Some(alpha) => out.extend_from_slice(&alpha),
                    None => out.resize(out.len() + width * height, 255),
                }
            }
        }
    }
    out
}

/// A chroma plane at another subsampling: means when samples are shared by more pixels, repetition when by fewer.
fn resample<'a>(
    plane: Cow<'a, [u8]>,
    width: usize,
    height: usize,
    from: Subsampling,
    to: Subsampling,
) -> Cow<'a, [u8]> {
    if from == to {
        return plane;
    }
    let (fw, fh) = (width.div_ceil(from.0), height.div_ceil(from.1));
    let (tw, th) = (width.div_ceil(to.0), height.div_ceil(to.1));
    let mut out = Vec::with_capacity(tw * th);
    for row in 0..th {
        let first = row * to.1 / from.1;
        let last = ((row * to.1 + to.1 - 1) / from.1).min(fh - 1);
        for column in 0..tw {
            let left = column * to.0 / from.0;
            let right = ((column * to.0 + to.0 - 1) / from.0).min(fw - 1);
            let mut sum = 0u32;
            for y in first..=last {
                sum += plane[y * fw + left..=y * fw + right].iter().map(|value| u32::from(*value)).sum::<u32>();
            }
            let count = ((last - first + 1) * (right - left + 1)) as u32;
            out.push(((sum + count / 2) / count) as u8);
        }
    }
    out.into()
}

fn failed(error: YuvError) -> CodecError {
    CodecError::new(format!("pixel conversion: {error}"))
}

const RANGE: YuvRange = YuvRange::Limited;
const MATRIX: YuvStandardMatrix = YuvStandardMatrix::Bt601;

fn rgb_to_planes(
    data: &[u8],
    width: usize,
    height: usize,
    format: PixelFormat,
    chroma: Subsampling,
) -> Result<Planes<'static>, CodecError> {
    let (w, h) = (width as u32, height as u32);
    let (cw, ch) = (width.div_ceil(chroma.0), height.div_ceil(chroma.1));
    let mut image = YuvPlanarImageMut {
        y_plane: BufferStoreMut::Owned(vec![0; width * height]),
        y_stride: w,
        u_plane: BufferStoreMut::Owned(vec![0; cw * ch]),
        u_stride: cw as u32,
        v_plane: BufferStoreMut::Owned(vec![0; cw * ch]),
        v_stride: cw as u32,
        width: w,
        height: h,
    };
    let (source, format) = match format {
        Abgr | Argb => (Cow::Owned(shuffle(data, format, Rgba)), Rgba),
        _ => (Cow::Borrowed(data), format),
    };
    let stride = (format.order().0 * width) as u32;
    let mode = YuvConversionMode::Balanced;
    let convert = match (format, chroma) {
        (Bgra, S420) => yuv::bgra_to_yuv420,
        (Bgra, S422) => yuv::bgra_to_yuv422,
        (Bgra, _) => yuv::bgra_to_yuv444,
        (Rgb24, S420) => yuv::rgb_to_yuv420,
        (Rgb24, S422) => yuv::rgb_to_yuv422,
        (Rgb24, _) => yuv::rgb_to_yuv444,
        (_, S420) => yuv::rgba_to_yuv420,
        (_, S422) => yuv::rgba_to_yuv422,
        (_, _) => yuv::rgba_to_yuv444,
    };
    convert(&mut image, &source, stride, RANGE, MATRIX, mode).map_err(failed)?;
    let (step, order) = format.order();
    let alpha = (step == 4).then(|| source.chunks_exact(4).map(|pixel| pixel[order[3]]).collect());
    let own = |store: BufferStoreMut<'_, u8>| Cow::Owned(store.borrow().to_vec());
    Ok(Planes { width, height, chroma, y: own(image.y_plane), u: own(image.u_plane), v: own(image.v_plane), alpha })
}

fn planes_to_rgb(planes: Planes<'_>, to: PixelFormat) -> Result<Vec<u8>, CodecError> {
    let Planes { width, height, chroma, y, u, v, alpha } = planes;
    let chroma_width = width.div_ceil(chroma.0) as u32;
    let image = YuvPlanarImage {
        y_plane: &y,
        y_stride: width as u32,
        u_plane: &u,
        u_stride: chroma_width,
        v_plane: &v,
        v_stride: chroma_width,
        width: width as u32,
        height: height as u32,
    };
    let direct = if matches!(to, Bgra | Rgb24) { to } else { Rgba };
    let (step, order) = direct.order();
    let mut out = vec![0; width * height * step];
    let convert = match (direct, chroma) {
        (Bgra, S420) => yuv::yuv420_to_bgra,
        (Bgra, S422) => yuv::yuv422_to_bgra,
        (Bgra, _) => yuv::yuv444_to_bgra,
        (Rgb24, S420) => yuv::yuv420_to_rgb,
        (Rgb24, S422) => yuv::yuv422_to_rgb,
        (Rgb24, _) => yuv::yuv444_to_rgb,
        (_, S420) => yuv::yuv420_to_rgba,
        (_, S422) => yuv::yuv422_to_rgba,
        (_, _) => yuv::yuv444_to_rgba,
    };
    convert(&image, &mut out, (width * step) as u32, RANGE, MATRIX).map_err(failed)?;
    if let (Some(alpha), 4) = (alpha, step) {
        for (pixel, alpha) in out.chunks_exact_mut(4).zip(alpha.iter()) {
            pixel[order[3]] = *alpha;
        }
    }
    Ok(if direct == to { out } else { shuffle(&out, direct, to) })
}
