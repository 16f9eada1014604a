use pyo3::prelude::*;
use pyo3::types::PyBytes;

use greenroom_peer::encoded::frame::{EncodedFormat, EncodedFrame};

use super::video::metadata_tuple;

#[pyclass(module = "greenroom._native", frozen)]
pub struct NativeEncodedFrame {
    frame: EncodedFrame,
}

#[pymethods]
impl NativeEncodedFrame {
    #[getter]
    fn mime_type(&self) -> &'static str {
        match self.frame.format {
            EncodedFormat::Opus => "audio/opus",
            EncodedFormat::Vp8 => "video/VP8",
            EncodedFormat::H264 => "video/H264",
        }
    }

    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.frame.data())
    }

    #[getter]
    fn rtp_timestamp(&self) -> u32 {
        self.frame.rtp_timestamp
    }

    #[getter]
    fn clock_rate(&self) -> u32 {
        self.frame.format.clock_rate()
    }

    #[getter]
    fn presentation_us(&self) -> i64 {
        self.frame.presentation_us
    }

    #[getter]
    fn duration_us(&self) -> u64 {
        self.frame.duration_us
    }

    #[getter]
    fn key_frame(&self) -> bool {
        self.frame.key
    }

    #[getter]
    fn width(&self) -> u16 {
        self.frame.width
    }

    #[getter]
    fn height(&self) -> u16 {
        self.frame.height
    }

    #[getter]
    fn rotation(&self) -> u8 {
        self.frame.rotation
    }

    #[getter]
    fn discontinuity(&self) -> bool {
        self.frame.discontinuity
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> Option<(Option<u64>, Option<u32>, Bound<'py, PyBytes>)> {
        self.frame.metadata.as_deref().map(|metadata| metadata_tuple(py, metadata))
    }
}

#[pyclass(module = "greenroom._native", frozen)]
pub struct EncodedSink {
    pub sink: greenroom_peer::EncodedSink,
}

#[pymethods]
impl EncodedSink {
    #[getter]
    fn id(&self) -> u64 {
        self.sink.id()
    }

    #[getter]
    fn dropped(&self) -> u64 {
        self.sink.dropped()
    }

    fn read(&self, py: Python<'_>) -> Vec<NativeEncodedFrame> {
        py.detach(|| self.sink.read()).into_iter().map(|frame| NativeEncodedFrame { frame }).collect()
    }

    fn request_keyframe(&self, py: Python<'_>) {
        py.detach(|| self.sink.request_keyframe());
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.sink.close());
    }
}
