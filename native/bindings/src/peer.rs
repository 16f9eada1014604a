//! The participant half of the module: `PeerEngine`, `Peer` and the media objects behind `greenroom.rtc`.

use pyo3::prelude::*;

mod audio;
pub(crate) mod buffer;
mod connection;
mod encoded;
mod engine;
mod error;
mod video;

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<engine::PeerEngine>()?;
    m.add_class::<connection::Peer>()?;
    m.add_class::<audio::AudioInput>()?;
    m.add_class::<audio::AudioSink>()?;
    m.add_class::<audio::NativeAudioFrame>()?;
    m.add_class::<audio::Resampler>()?;
    m.add_class::<video::VideoInput>()?;
    m.add_class::<video::VideoSink>()?;
    m.add_class::<video::NativeVideoFrame>()?;
    m.add_class::<encoded::EncodedSink>()?;
    m.add_class::<encoded::NativeEncodedFrame>()?;
    m.add_function(wrap_pyfunction!(video::convert_video, m)?)?;
    Ok(())
}
