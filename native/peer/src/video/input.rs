//! Pictures from the program, encoded for every section that sends them. The newest wins: a picture that waits when the
//! next one comes is dropped.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use greenroom_codecs::pixels::{PixelFormat, to_i420};
use greenroom_codecs::video::{I420, VideoCodec, VideoEncoder, VideoSettings, encoder};

use crate::error::PeerError;
use crate::event::Id;
use crate::lock;
use crate::pool::{CodecPool, Task, TaskHandle};
use crate::video::metadata::{self, FrameMetadata};

/// One layer of a section. `rid` is empty without simulcast.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoLayer {
    pub rid: String,
    pub scale_down_by: f64,
    /// Bits per second.
    pub max_bitrate: u32,
    pub max_fps: f64,
}

/// One encoded picture on its way to a section.
pub(crate) struct VideoPacket {
    pub layer: usize,
    pub data: Vec<u8>,
    pub timestamp_us: i64,
    pub rotation: u8,
}

/// A section that sends this input.
pub(crate) trait VideoTarget: Send + Sync {
    /// None: the section is gone for good. Else the number of layers that the other side takes now, 0 while it is not
    /// connected or muted.
    fn layers_wanted(&self) -> Option<usize>;
    /// Somebody needs a key frame of the layer; asking resets it.
    fn take_keyframe_request(&self, layer: usize) -> bool;
    fn send(&self, packet: VideoPacket);
}

struct Raw {
    data: Vec<u8>,
    width: usize,
    height: usize,
    format: PixelFormat,
    timestamp_us: i64,
    rotation: u8,
    trailer: Vec<u8>,
}

/// What is encoded, and what goes with it.
struct Shown {
    picture: I420,
    rotation: u8,
    /// Behind every encoded frame of the picture, on sections that want it.
    trailer: Vec<u8>,
}

struct Layer {
    config: VideoLayer,
    encoder: Option<(VideoSettings, Box<dyn VideoEncoder>)>,
    next_due_us: i64,
}

struct Output {
    target: Arc<dyn VideoTarget>,
    codec: VideoCodec,
    layers: Vec<Layer>,
    /// Trailers were announced to the other side.
    trailers: bool,
}

struct Slot {
    newest: Option<Raw>,
    /// A buffer of the last picture, used again.
    spare: Vec<u8>,
    closed: bool,
}

struct Encoding {
    outputs: Vec<Output>,
    /// For a key frame that is asked for while no new picture comes.
    last: Option<Shown>,
    last_timestamp_us: i64,
}

pub struct VideoInput {
    id: Id,
    screencast: bool,
    epoch: Instant,
    slot: Mutex<Slot>,
    encoding: Mutex<Encoding>,
    task: TaskHandle,
}

impl VideoInput {
    pub(crate) fn new(id: Id, pool: &CodecPool, screencast: bool) -> Arc<Self> {
        Arc::new_cyclic(|weak: &Weak<Self>| Self {
            id,
            screencast,
            epoch: Instant::now(),
            slot: Mutex::new(Slot { newest: None, spare: Vec::new(), closed: false }),
            encoding: Mutex::new(Encoding { outputs: Vec::new(), last: None, last_timestamp_us: 0 }),
            task: pool.adopt(weak.clone()),
        })
    }

    pub fn id(&self) -> Id {
        self.id
    }

    /// Queue a picture. `timestamp_us` 0: now. `rotation`: quarter turns clockwise.
    pub fn push(
        &self,
        data: &[u8],
        width: usize,
        height: usize,
        format: PixelFormat,
        timestamp_us: i64,
        rotation: u8,
    ) -> Result<(), PeerError> {
        self.push_with(data, width, height, format, timestamp_us, rotation, &FrameMetadata::default())
    }

    /// [`push`](Self::push) with words that reach whoever decodes this picture, on sections that carry them.
    #[allow(clippy::too_many_arguments, reason = "a picture and what is said about it")]
    pub fn push_with(
        &self,
        data: &[u8],
        width: usize,
        height: usize,
        format: PixelFormat,
        timestamp_us: i64,
        rotation: u8,
        metadata: &FrameMetadata,
    ) -> Result<(), PeerError> {
        let trailer = metadata.trailer()?;
        let Some(expected) = format.checked_size(width, height) else {
            return Err(PeerError::invalid(format!("a picture of {width}x{height}")));
        };
        if data.len() != expected {
            let found = data.len();
            return Err(PeerError::invalid(format!(
                "{width}x{height} in format {format:?} takes {expected} bytes, not {found}"
            )));
        }
        if rotation > 3 {
            return Err(PeerError::invalid(format!("rotation {rotation}; 0 to 3 quarter turns are possible")));
        }
        let timestamp_us = if timestamp_us > 0 { timestamp_us } else { self.epoch.elapsed().as_micros() as i64 };
        let mut slot = lock(&self.slot);
        if slot.closed {
            return Err(PeerError::state("the video source is closed"));
        }
        let mut buffer = match slot.newest.take() {
            Some(dropped) => dropped.data,
            None => std::mem::take(&mut slot.spare),
        };
        buffer.clear();
        buffer.extend_from_slice(data);
        slot.newest = Some(Raw { data: buffer, width, height, format, timestamp_us, rotation, trailer });
        drop(slot);
        self.task.wake();
        Ok(())
    }

    pub fn close(&self) {
        *lock(&self.slot) = Slot { newest: None, spare: Vec::new(), closed: true };
        let mut encoding = lock(&self.encoding);
        encoding.outputs.clear();
        encoding.last = None;
    }

    /// Something else than a new picture needs encoding: a key frame was asked for, or somebody has connected.
    pub(crate) fn wake(&self) {
        self.task.wake();
    }

    /// `trailers`: send what is said about pictures along.
    pub(crate) fn attach(
        &self,
        target: Arc<dyn VideoTarget>,
        codec: VideoCodec,
        layers: &[VideoLayer],
        trailers: bool,
    ) {
        let layers = layers
            .iter()
            .map(|config| Layer { config: config.clone(), encoder: None, next_due_us: i64::MIN / 2 })
            .collect();
        lock(&self.encoding).outputs.push(Output { target, codec, layers, trailers });
    }
}

impl Task for VideoInput {
    fn run(&self, _now: Instant) -> Option<Instant> {
        let raw = lock(&self.slot).newest.take();
        let mut encoding = lock(&self.encoding);
        let fresh = raw.is_some();
        if let Some(raw) = raw {
            match to_i420(&raw.data, raw.width, raw.height, raw.format) {
                Ok(picture) => {
                    encoding.last = Some(Shown { picture, rotation: raw.rotation, trailer: raw.trailer });
                }
                Err(error) => log::warn!("picture not taken: {error}"),
            }
            encoding.last_timestamp_us = raw.timestamp_us.max(encoding.last_timestamp_us + 1);
            let mut slot = lock(&self.slot);
            if !slot.closed {
                slot.spare = raw.data;
            }
        }
        encoding.encode(fresh, self.screencast);
        None
    }

    fn failed(&self) {
        self.close();
    }
}

impl Encoding {
    fn encode(&mut self, fresh: bool, screencast: bool) {
        let Some(shown) = self.last.take() else {
            self.outputs.retain(|output| output.target.layers_wanted().is_some());
            return;
        };
        if !fresh {
            // The old picture once more, a little later than it was.
            self.last_timestamp_us += Duration::from_millis(1).as_micros() as i64;
        }
        let timestamp_us = self.last_timestamp_us;
        self.outputs.retain_mut(|output| {
            let Some(wanted) = output.target.layers_wanted() else { return false };
            for (index, layer) in output.layers.iter_mut().enumerate() {
                if index >= wanted {
                    // When it is wanted again it starts with a key frame.
                    layer.encoder = None;
                    continue;
                }
                let asked = output.target.take_keyframe_request(index);
                let key = asked || layer.encoder.is_none();
                if !key && (!fresh || !layer.is_due(timestamp_us)) {
                    continue;
                }
                match layer.encode(output.codec, &shown.picture, timestamp_us, key, screencast) {
                    Ok(Some(mut data)) => {
                        if output.trailers && metadata::fits(output.codec, &shown.trailer) {
                            data.extend_from_slice(&shown.trailer);
                        }
                        let rotation = shown.rotation;
                        output.target.send(VideoPacket { layer: index, data, timestamp_us, rotation });
                    }
                    Ok(None) => {}
                    Err(error) => {
                        log::warn!("picture not encoded: {error}");
                        layer.encoder = None;
                    }
                }
            }
            true
        });
        self.last = Some(shown);
    }
}

impl Layer {
    /// Keeps the frame rate below the maximum, whatever the rhythm of the pictures.
    fn is_due(&mut self, timestamp_us: i64) -> bool {
        if self.config.max_fps <= 0.0 {
            return true;
        }
        let interval = (1_000_000.0 / self.config.max_fps) as i64;
        // A picture that is a little early is in time.
        if timestamp_us < self.next_due_us - interval / 4 {
            return false;
        }
        self.next_due_us = self.next_due_us.max(timestamp_us - interval) + interval;
        true
    }

    fn encode(
        &mut self,
        codec: VideoCodec,
        picture: &I420,
        timestamp_us: i64,
        key: bool,
        screencast: bool,
    ) -> Result<Option<Vec<u8>>, greenroom_codecs::CodecError> {
        let (width, height) = layer_size(codec, picture, self.config.scale_down_by);
        let settings = VideoSettings {
            width,
            height,
            bitrate: if self.config.max_bitrate > 0 { self.config.max_bitrate } else { default_bitrate(width, height) },
            fps: if self.config.max_fps > 0.0 { self.config.max_fps as f32 } else { 30.0 },
            screencast,
        };
        if self.encoder.as_ref().is_none_or(|(old, _)| *old != settings) {
            self.encoder = Some((settings, encoder(codec, settings)?));
        }
        let Some((_, encoder)) = self.encoder.as_mut() else { return Ok(None) };
        let scaled;
        let picture = if (picture.width, picture.height) == (width, height) {
            picture
        } else {
            scaled = picture.scaled(width, height);
            &scaled
        };
        Ok(encoder.encode(picture, timestamp_us, key)?.map(|encoded| encoded.data))
    }
}

/// H264 and scaled layers have even sides.
fn layer_size(codec: VideoCodec, picture: &I420, scale: f64) -> (usize, usize) {
    let scale = if scale.is_finite() && scale > 1.0 { scale } else { 1.0 };
    let side = |pixels: usize| {
        let scaled = ((pixels as f64 / scale).round() as usize).max(1);
        match codec {
            VideoCodec::H264 => (scaled & !1).max(16),
            VideoCodec::Vp8 if scale > 1.0 => (scaled & !1).max(2),
            VideoCodec::Vp8 => scaled,
        }
    };
    (side(picture.width), side(picture.height))
}

/// About 0.08 bits a pixel at 30 pictures a second: 2.2 Mbit/s at 720p.
fn default_bitrate(width: usize, height: usize) -> u32 {
    ((width * height) as f64 * 30.0 * 0.08).clamp(100_000.0, 6_000_000.0) as u32
}
