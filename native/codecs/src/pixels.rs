//! The eleven pixel formats of the participant SDK and all 121 conversions between them.
//!
//! RGB formats name the order of bytes in memory. YUV is BT.601 in limited range, as WebRTC's codecs take it. Between RGB
//! formats bytes are only moved; between YUV formats only chroma is resampled; nothing takes a detour that loses more.

use std::borrow::Cow;

use yuv::{
    BufferStoreMut, YuvConversionMode, YuvError, YuvPlanarImage, YuvPlanarImageMut, YuvRange, YuvStandardMatrix,
};

use crate::CodecError;
use crate::picture::{I420, MAX_SIDE};

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

    /// `size`, or None for sides that no picture here has.
    pub fn checked_size(self, width: usize, height: usize) -> Option<usize> {
        let sane = |side: usize| (1..=MAX_SIDE).contains(&side);
        (sane(width) && sane(height)).then(|| self.size(width, height))
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
    let mut out = vec![0; to.size(width, height)];
    convert_into(data, width, height, from, to, flip_y, &mut out)?;
    Ok(out)
}

/// As `convert`, into memory of exactly the size of the result.
pub fn convert_into(
    data: &[u8],
    width: usize,
    height: usize,
    from: PixelFormat,
    to: PixelFormat,
    flip_y: bool,
    out: &mut [u8],
) -> Result<(), CodecError> {
    check(data, width, height, from)?;
    check(out, width, height, to)?;
    match (from.is_rgb(), to.is_rgb()) {
        _ if from == to => out.copy_from_slice(data),
        (true, true) => shuffle(data, from, to, out),
        (false, false) => write_planes(read_planes(data, width, height, from), to, out),
        (true, false) => rgb_to_planes(data, width, height, from, to, out)?,
        (false, true) => planes_to_rgb(read_planes(data, width, height, from), to, out)?,
    };
    if flip_y {
        flip(out, &to.planes(width, height));
    }
    Ok(())
}

/// One picture as the encoders take it.
pub fn to_i420(data: &[u8], width: usize, height: usize, from: PixelFormat) -> Result<I420, CodecError> {
    Ok(I420 { width, height, data: convert(data, width, height, from, PixelFormat::I420, false)? })
}

fn check(data: &[u8], width: usize, height: usize, format: PixelFormat) -> Result<(), CodecError> {
    let Some(expected) = format.checked_size(width, height) else {
        return Err(CodecError::new(format!("a picture of {width}x{height}; sides are 1 to {MAX_SIDE}")));
    };
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

fn shuffle(data: &[u8], from: PixelFormat, to: PixelFormat, out: &mut [u8]) {
    let ((step, source), (out_step, target)) = (from.order(), to.order());
    match (step, out_step) {
        (4, 4) => {
            out.copy_from_slice(data);
            reorder(out, from, to);
        }
        (3, _) => {
            for (pixel, bytes) in out.chunks_exact_mut(4).zip(data.chunks_exact(3)) {
                (0..3).for_each(|channel| pixel[target[channel]] = bytes[channel]);
                pixel[target[3]] = 255;
            }
        }
        _ => {
            for (pixel, bytes) in out.chunks_exact_mut(3).zip(data.chunks_exact(4)) {
                (0..3).for_each(|channel| pixel[channel] = bytes[source[channel]]);
            }
        }
    }
}

/// The same bytes in another order, in place: pixels of four bytes. Each case is one or two operations on a whole pixel,
/// which the compiler vectorises.
fn reorder(pixels: &mut [u8], from: PixelFormat, to: PixelFormat) {
    let mut map = [0; 4];
    let (source, target) = (from.order().1, to.order().1);
    (0..4).for_each(|channel| map[target[channel]] = source[channel]);
    match map {
        [0, 1, 2, 3] => {}
        [3, 2, 1, 0] => each(pixels, u32::swap_bytes),
        [1, 2, 3, 0] => each(pixels, |pixel| pixel.rotate_right(8)),
        [3, 0, 1, 2] => each(pixels, |pixel| pixel.rotate_left(8)),
        [2, 1, 0, 3] => each(pixels, |pixel| (pixel & 0xff00_ff00) | (pixel & 0x00ff_00ff).rotate_left(16)),
        [0, 3, 2, 1] => each(pixels, |pixel| (pixel & 0x00ff_00ff) | (pixel & 0xff00_ff00).rotate_left(16)),
        _ => each(pixels, |pixel| {
            let bytes = pixel.to_le_bytes();
            u32::from_le_bytes(map.map(|index| bytes[index]))
        }),
    }
}

/// `change` sees the first byte of a pixel in its lowest bits.
fn each(pixels: &mut [u8], change: impl Fn(u32) -> u32) {
    for pixel in pixels.chunks_exact_mut(4) {
        let value = u32::from_le_bytes([pixel[0], pixel[1], pixel[2], pixel[3]]);
        pixel.copy_from_slice(&change(value).to_le_bytes());
    }
}

fn split_mut(data: &mut [u8], format: PixelFormat, width: usize, height: usize) -> Vec<&mut [u8]> {
    let mut rest = data;
    let mut planes = Vec::with_capacity(4);
    for (row, rows) in format.planes(width, height) {
        let (plane, after) = rest.split_at_mut(row * rows);
        planes.push(plane);
        rest = after;
    }
    planes
}

fn split(data: &[u8], format: PixelFormat, width: usize, height: usize) -> Vec<&[u8]> {
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
    Planes { width, height, chroma: subsampling(format), y, u, v, alpha }
}

fn write_planes(planes: Planes<'_>, format: PixelFormat, out: &mut [u8]) {
    let Planes { width, height, chroma, y, u, v, alpha } = planes;
    let wanted = subsampling(format);
    let u = resample(u, width, height, chroma, wanted);
    let v = resample(v, width, height, chroma, wanted);
    let mut targets = split_mut(out, format, width, height);
    match format {
        I010 => {
            for (target, plane) in targets.into_iter().zip([y, u, v]) {
                for (bytes, value) in target.chunks_exact_mut(2).zip(plane.iter()) {
                    bytes.copy_from_slice(&(u16::from(*value) << 2).to_le_bytes());
                }
            }
        }
        Nv12 => {
            targets[0].copy_from_slice(&y);
            for ((pair, u), v) in targets[1].chunks_exact_mut(2).zip(u.iter()).zip(v.iter()) {
                (pair[0], pair[1]) = (*u, *v);
            }
        }
        _ => {
            targets.iter_mut().zip([y, u, v]).for_each(|(target, plane)| target.copy_from_slice(&plane));
            if format == I420A {
                match alpha {
                    Some(alpha) => targets[3].copy_from_slice(&alpha),
                    None => targets[3].fill(255),
                }
            }
        }
    }
}

fn subsampling(format: PixelFormat) -> Subsampling {
    match format {
        I422 => S422,
        I444 => S444,
        _ => S420,
    }
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
    to: PixelFormat,
    out: &mut [u8],
) -> Result<(), CodecError> {
    let (source, format) = match format {
        Abgr | Argb => {
            let mut rgba = data.to_vec();
            reorder(&mut rgba, format, Rgba);
            (Cow::Owned(rgba), Rgba)
        }
        _ => (Cow::Borrowed(data), format),
    };
    let chroma = subsampling(to);
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
    // Formats that are not plain planes get them in the last step.
    let planar = match to {
        I010 | Nv12 => PixelFormat::I420,
        _ => to,
    };
    let mut buffer = Vec::new();
    let target = if planar == to {
        &mut *out
    } else {
        buffer.resize(planar.size(width, height), 0);
        &mut buffer
    };
    let mut planes = split_mut(target, planar, width, height).into_iter();
    let mut next = || BufferStoreMut::Borrowed(planes.next().unwrap_or_default());
    let chroma_stride = width.div_ceil(chroma.0) as u32;
    let mut image = YuvPlanarImageMut {
        y_plane: next(),
        y_stride: width as u32,
        u_plane: next(),
        u_stride: chroma_stride,
        v_plane: next(),
        v_stride: chroma_stride,
        width: width as u32,
        height: height as u32,
    };
    let (step, order) = format.order();
    convert(&mut image, &source, (step * width) as u32, RANGE, MATRIX, YuvConversionMode::Balanced).map_err(failed)?;
    if let Some(alpha) = planes.next() {
        match step {
            4 => alpha.iter_mut().zip(source.chunks_exact(4)).for_each(|(a, pixel)| *a = pixel[order[3]]),
            _ => alpha.fill(255),
        }
    }
    if planar != to {
        write_planes(read_planes(&buffer, width, height, planar), to, out);
    }
    Ok(())
}

fn planes_to_rgb(planes: Planes<'_>, to: PixelFormat, out: &mut [u8]) -> Result<(), CodecError> {
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
    convert(&image, out, (width * step) as u32, RANGE, MATRIX).map_err(failed)?;
    if let (Some(alpha), 4) = (alpha, step) {
        for (pixel, alpha) in out.chunks_exact_mut(4).zip(alpha.iter()) {
            pixel[order[3]] = *alpha;
        }
    }
    if direct != to {
        reorder(out, direct, to);
    }
    Ok(())
}
