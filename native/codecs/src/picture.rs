//! Pictures as codecs take and give them: I420, and its scaling.

/// The largest side that is accepted from outside, in pixels.
pub const MAX_SIDE: usize = 8192;

/// An 8-bit 4:2:0 picture, planes tightly packed: Y, U, V. Chroma sides are halved and rounded up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct I420 {
    pub width: usize,
    pub height: usize,
    pub data: Vec<u8>,
}

impl I420 {
    pub fn size(width: usize, height: usize) -> usize {
        width * height + 2 * width.div_ceil(2) * height.div_ceil(2)
    }

    /// A picture of zeros.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, data: vec![0; Self::size(width, height)] }
    }

    pub fn from_planes(width: usize, height: usize, planes: [&[u8]; 3], strides: [usize; 3]) -> Self {
        let mut data = Vec::with_capacity(Self::size(width, height));
        for (index, (plane, stride)) in planes.into_iter().zip(strides).enumerate() {
            let (w, h) = if index == 0 { (width, height) } else { (width.div_ceil(2), height.div_ceil(2)) };
            for row in 0..h {
                data.extend_from_slice(&plane[row * stride..row * stride + w]);
            }
        }
        Self { width, height, data }
    }

    pub fn chroma_width(&self) -> usize {
        self.width.div_ceil(2)
    }

    pub fn chroma_height(&self) -> usize {
        self.height.div_ceil(2)
    }

    /// Y, U, V.
    pub fn planes(&self) -> [&[u8]; 3] {
        let luma = self.width * self.height;
        let chroma = self.chroma_width() * self.chroma_height();
        [&self.data[..luma], &self.data[luma..luma + chroma], &self.data[luma + chroma..luma + 2 * chroma]]
    }

    pub fn planes_mut(&mut self) -> [&mut [u8]; 3] {
        let luma = self.width * self.height;
        let chroma = self.chroma_width() * self.chroma_height();
        let (y, rest) = self.data.split_at_mut(luma);
        let (u, v) = rest.split_at_mut(chroma);
        [y, u, v]
    }

    /// The picture at another size, each pixel the mean of what it covers.
    pub fn scaled(&self, width: usize, height: usize) -> Self {
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let mut out = Self::new(width, height);
        let from = [
            (self.width, self.height),
            (self.chroma_width(), self.chroma_height()),
            (self.chroma_width(), self.chroma_height()),
        ];
        let to = [(width, height), (width.div_ceil(2), height.div_ceil(2)), (width.div_ceil(2), height.div_ceil(2))];
        for (index, (source, target)) in self.planes().into_iter().zip(out.planes_mut()).enumerate() {
            scale_plane(source, from[index], target, to[index]);
        }
        out
    }
}

fn scale_plane(source: &[u8], (sw, sh): (usize, usize), target: &mut [u8], (tw, th): (usize, usize)) {
    if (sw, sh) == (tw * 2, th * 2) {
        for (row, out) in target.chunks_exact_mut(tw).enumerate() {
            let (top, bottom) = source[row * 2 * sw..(row * 2 + 2) * sw].split_at(sw);
            for ((pixel, a), b) in out.iter_mut().zip(top.chunks_exact(2)).zip(bottom.chunks_exact(2)) {
                *pixel = ((u16::from(a[0]) + u16::from(a[1]) + u16::from(b[0]) + u16::from(b[1]) + 2) >> 2) as u8;
            }
        }
        return;
    }
    let edges = |from: usize, to: usize| -> Vec<(usize, usize)> {
        (0..to)
            .map(|n| {
                let start = n * from / to;
                (start, ((n + 1) * from / to).max(start + 1))
            })
            .collect()
    };
    let columns = edges(sw, tw);
    for ((y0, y1), out) in edges(sh, th).into_iter().zip(target.chunks_exact_mut(tw)) {
        for ((x0, x1), pixel) in columns.iter().copied().zip(out) {
            let mut sum = 0u32;
            for row in y0..y1 {
                sum += source[row * sw + x0..row * sw + x1].iter().map(|v| u32::from(*v)).sum::<u32>();
            }
            let count = ((x1 - x0) * (y1 - y0)) as u32;
            *pixel = ((sum + count / 2) / count) as u8;
        }
    }
}
