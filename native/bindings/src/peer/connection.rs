use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use greenroom_codecs::video::VideoCodec;
use greenroom_peer::audio::sink::AudioFormat;
use greenroom_peer::video::input::VideoLayer;
use greenroom_peer::{MediaKind, Place, SectionStats};

use super::audio::{AudioInput, AudioSink};
use super::buffer::Bytes;
use super::encoded::EncodedSink;
use super::engine::PeerEngine;
use super::error::raise;
use super::video::{VideoInput, VideoSink};

#[pyclass(module = "greenroom._native", frozen)]
pub struct Peer {
    peer: greenroom_peer::Peer,
}

fn media_kind(kind: &str) -> PyResult<MediaKind> {
    match kind {
        "audio" => Ok(MediaKind::Audio),
        "video" => Ok(MediaKind::Video),
        other => Err(PyValueError::new_err(format!("kind {other:?} is neither \"audio\" nor \"video\""))),
    }
}

#[pymethods]
impl Peer {
    #[new]
    fn new(py: Python<'_>, engine: &PeerEngine) -> PyResult<Self> {
        Ok(Self { peer: py.detach(|| engine.engine.add_peer()).map_err(raise)? })
    }

    #[getter]
    fn id(&self) -> u64 {
        self.peer.id()
    }

    #[pyo3(signature = (kind, count = 1))]
    fn add_receive(&self, py: Python<'_>, kind: &str, count: usize) -> PyResult<Vec<String>> {
        if count > 1000 {
            return Err(PyValueError::new_err(format!("{count} sections at once")));
        }
        let kind = media_kind(kind)?;
        py.detach(|| self.peer.add_receive(kind, count)).map_err(raise)
    }

    #[pyo3(signature = (label, ordered, max_retransmits = None))]
    fn add_data_channel(
        &self,
        py: Python<'_>,
        label: &str,
        ordered: bool,
        max_retransmits: Option<u16>,
    ) -> PyResult<()> {
        py.detach(|| self.peer.add_data_channel(label, ordered, max_retransmits)).map_err(raise)
    }

    #[pyo3(signature = (source, *, cid, stream_id, bitrate, dtx, red, mid = None, receive = false))]
    #[allow(clippy::too_many_arguments, reason = "the seam's keywords")]
    fn send_audio(
        &self,
        py: Python<'_>,
        source: &AudioInput,
        cid: &str,
        stream_id: &str,
        bitrate: u32,
        dtx: bool,
        red: bool,
        mid: Option<&str>,
        receive: bool,
    ) -> PyResult<String> {
        let place = mid.map_or(Place::New { receive }, Place::At);
        py.detach(|| self.peer.send_audio_at(place, &source.input, cid, stream_id, bitrate, dtx, red)).map_err(raise)
    }

    #[pyo3(signature = (source, *, cid, stream_id, codec, layers, trailers = false, mid = None, receive = false))]
    #[allow(clippy::too_many_arguments, reason = "the seam's keywords")]
    fn send_video(
        &self,
        py: Python<'_>,
        source: &VideoInput,
        cid: &str,
        stream_id: &str,
        codec: &str,
        layers: Vec<(String, f64, u32, f64)>,
        trailers: bool,
        mid: Option<&str>,
        receive: bool,
    ) -> PyResult<String> {
        let place = mid.map_or(Place::New { receive }, Place::At);
        let codec = match codec {
            "vp8" => VideoCodec::Vp8,
            "h264" => VideoCodec::H264,
            other => return Err(PyValueError::new_err(format!("codec {other:?} is neither \"vp8\" nor \"h264\""))),
        };
        let layers: Vec<VideoLayer> = layers
            .into_iter()
            .map(|(rid, scale_down_by, max_bitrate, max_fps)| VideoLayer { rid, scale_down_by, max_bitrate, max_fps })
            .collect();
        let input = &source.input;
        py.detach(|| self.peer.send_video_at(place, input, cid, stream_id, codec, &layers, trailers)).map_err(raise)
    }

    fn remove_send(&self, py: Python<'_>, mid: &str) -> PyResult<()> {
        py.detach(|| self.peer.remove_send(mid)).map_err(raise)
    }

    fn set_send_muted(&self, mid: &str, muted: bool) -> PyResult<()> {
        self.peer.set_send_muted(mid, muted).map_err(raise)
    }

    #[pyo3(signature = (ice_restart = false))]
    fn create_offer(&self, py: Python<'_>, ice_restart: bool) -> PyResult<String> {
        py.detach(|| self.peer.create_offer(ice_restart)).map_err(raise)
    }

    fn rollback(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.peer.rollback()).map_err(raise)
    }

    fn set_receiving(&self, py: Python<'_>, mid: &str, receiving: bool) -> PyResult<()> {
        py.detach(|| self.peer.set_receiving(mid, receiving)).map_err(raise)
    }

    fn set_answer(&self, py: Python<'_>, sdp: &str) -> PyResult<()> {
        py.detach(|| self.peer.set_answer(sdp)).map_err(raise)
    }

    fn accept_offer(&self, py: Python<'_>, sdp: &str) -> PyResult<String> {
        py.detach(|| self.peer.accept_offer(sdp)).map_err(raise)
    }

    fn add_candidate(&self, py: Python<'_>, candidate: &str) -> PyResult<()> {
        py.detach(|| self.peer.add_candidate(candidate)).map_err(raise)
    }

    #[pyo3(signature = (mid, *, sample_rate, channels, frame_ms, capacity))]
    fn receive_audio(
        &self,
        py: Python<'_>,
        mid: &str,
        sample_rate: u32,
        channels: usize,
        frame_ms: u32,
        capacity: usize,
    ) -> PyResult<AudioSink> {
        let format = AudioFormat { sample_rate, channels, frame_ms };
        let sink = py.detach(|| self.peer.receive_audio(mid, format, capacity)).map_err(raise)?;
        Ok(AudioSink { sink })
    }

    #[pyo3(signature = (mid, *, capacity))]
    fn receive_video(&self, py: Python<'_>, mid: &str, capacity: usize) -> PyResult<VideoSink> {
        let sink = py.detach(|| self.peer.receive_video(mid, capacity)).map_err(raise)?;
        Ok(VideoSink { sink })
    }

    #[pyo3(signature = (mid, kind, *, group, capacity))]
    fn receive_encoded(
        &self,
        py: Python<'_>,
        mid: &str,
        kind: &str,
        group: &str,
        capacity: usize,
    ) -> PyResult<EncodedSink> {
        let kind = media_kind(kind)?;
        let sink = py.detach(|| self.peer.receive_encoded(mid, kind, group, capacity)).map_err(raise)?;
        Ok(EncodedSink { sink })
    }

    fn send(&self, py: Python<'_>, label: &str, payload: &Bound<'_, PyAny>) -> PyResult<usize> {
        let bytes = Bytes::of(payload)?;
        py.detach(|| self.peer.send(label, bytes.as_slice())).map_err(raise)
    }

    fn send_text(&self, py: Python<'_>, label: &str, text: &str) -> PyResult<usize> {
        py.detach(|| self.peer.send_text(label, text)).map_err(raise)
    }

    fn close_channel(&self, py: Python<'_>, label: &str) -> PyResult<bool> {
        py.detach(|| self.peer.close_channel(label)).map_err(raise)
    }

    fn buffered(&self, py: Python<'_>, label: &str) -> usize {
        py.detach(|| self.peer.buffered(label))
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let snapshot = py.detach(|| self.peer.stats());
        let stats = PyDict::new(py);
        stats.set_item("rtt_ms", snapshot.rtt_ms)?;
        stats.set_item("bytes_in", snapshot.bytes_in)?;
        stats.set_item("bytes_out", snapshot.bytes_out)?;
        for (mid, section) in &snapshot.sections {
            let dict = section_dict(py, section)?;
            if let Some(received) = snapshot.received.get(mid) {
                dict.set_item("received", section_dict(py, received)?)?;
            }
            stats.set_item(mid, dict)?;
        }
        Ok(stats)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.peer.close());
    }
}

fn section_dict<'py>(py: Python<'py>, section: &SectionStats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("sending", section.sending)?;
    dict.set_item("packets", section.packets)?;
    dict.set_item("bytes", section.bytes)?;
    dict.set_item("lost", section.lost)?;
    dict.set_item("jitter_ms", section.jitter_ms)?;
    dict.set_item("concealed_ms", section.concealed_ms)?;
    dict.set_item("decoded", section.decoded)?;
    dict.set_item("malformed", section.malformed)?;
    dict.set_item("nacks", section.nacks)?;
    dict.set_item("plis", section.plis)?;
    dict.set_item("codec", &section.codec)?;
    dict.set_item("ssrc", section.ssrc)?;
    Ok(dict)
}
