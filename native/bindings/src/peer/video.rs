use std::ffi::{c_int, c_void};
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use greenroom_codecs::CodecError;
use greenroom_codecs::pixels::{self, PixelFormat};
use greenroom_codecs::video::MAX_SIDE;
use greenroom_peer::video::input;
use greenroom_peer::video::metadata::FrameMetadata;
use greenroom_peer::video::receiver::VideoFrame;

use super::buffer::{Bytes, Export};
use super::engine::PeerEngine;
use super::error::raise;

fn codec_error(error: CodecError) -> PyErr {
    PyValueError::new_err(error.0)
}

#[pyclass(module = "greenroom._native", frozen)]
pub struct VideoInput {
    pub input: Arc<input::VideoInput>,
}

#[pymethods]
impl VideoInput {
    #[new]
    #[pyo3(signature = (engine, width, height, screencast = false))]
    fn new(engine: &PeerEngine, width: usize, height: usize, screencast: bool) -> PyResult<Self> {
        if width == 0 || height == 0 {
            return Err(PyValueError::new_err(format!("a video source of {width}x{height}")));
        }
        Ok(Self { input: engine.engine.video_input(screencast) })
    }

    #[getter]
    fn id(&self) -> u64 {
        self.input.id()
    }

    #[pyo3(signature = (data, width, height, format, timestamp_us, rotation, metadata = None))]
    #[allow(clippy::too_many_arguments, reason = "the seam's arguments")]
    fn push(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        width: usize,
        height: usize,
        format: i64,
        timestamp_us: i64,
        rotation: u8,
        metadata: Option<(Option<u64>, Option<u32>, Vec<u8>)>,
    ) -> PyResult<()> {
        let (user_timestamp, frame_id, user_data) = metadata.unwrap_or_default();
        let metadata = FrameMetadata { timestamp_us: user_timestamp, frame_id, user_data };
        let format = PixelFormat::from_value(format).map_err(codec_error)?;
        let bytes = Bytes::of(data)?;
        py.detach(|| self.input.push_with(bytes.as_slice(), width, height, format, timestamp_us, rotation, &metadata))
            .map_err(raise)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.input.close());
    }
}

/// `(timestamp, frame id, user data)`, as `VideoInput.push` takes it.
pub fn metadata_tuple<'py>(
    py: Python<'py>,
    metadata: &FrameMetadata,
) -> (Option<u64>, Option<u32>, Bound<'py, PyBytes>) {
    (metadata.timestamp_us, metadata.frame_id, PyBytes::new(py, &metadata.user_data))
}

/// Buffer protocol: read-only bytes, planes tightly packed.
#[pyclass(module = "greenroom._native", frozen)]
pub struct NativeVideoFrame {
    frame: VideoFrame,
    export: Export,
}

#[pymethods]
impl NativeVideoFrame {
    #[getter]
    fn width(&self) -> usize {
        self.frame.width
    }

    #[getter]
    fn height(&self) -> usize {
        self.frame.height
    }

    #[getter]
    fn format(&self) -> u8 {
        PixelFormat::I420 as u8
    }

    #[getter]
    fn timestamp_us(&self) -> i64 {
        self.frame.timestamp_us
    }

    #[getter]
    fn rotation(&self) -> u8 {
        self.frame.rotation
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> Option<(Option<u64>, Option<u32>, Bound<'py, PyBytes>)> {
        self.frame.metadata.as_deref().map(|metadata| metadata_tuple(py, metadata))
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let frame = slf.get();
        // SAFETY: the planes are immutable behind an Arc that the object holds.
        unsafe { frame.export.fill(slf.as_any().clone(), frame.frame.data.as_ptr().cast::<c_void>(), view, flags) }
    }
}

#[pyclass(module = "greenroom._native", frozen)]
pub struct VideoSink {
    pub sink: greenroom_peer::VideoSink,
}

#[pymethods]
impl VideoSink {
    #[getter]
    fn id(&self) -> u64 {
        self.sink.id()
    }

    fn read(&self) -> Vec<NativeVideoFrame> {
        let made = |frame: VideoFrame| {
            let export = Export::new(frame.data.len(), 1, c"B");
            NativeVideoFrame { frame, export }
        };
        self.sink.read().into_iter().map(made).collect()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.sink.close());
    }
}

/// Convert between `VideoBufferType` values. ValueError on wrong sizes.
#[pyfunction]
#[pyo3(signature = (data, width, height, from_format, to_format, flip_y = false))]
pub fn convert_video<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyAny>,
    width: usize,
    height: usize,
    from_format: i64,
    to_format: i64,
    flip_y: bool,
) -> PyResult<Bound<'py, PyByteArray>> {
    let from = PixelFormat::from_value(from_format).map_err(codec_error)?;
    let to = PixelFormat::from_value(to_format).map_err(codec_error)?;
    let bytes = Bytes::of(data)?;
    let size = to
        .checked_size(width, height)
        .ok_or_else(|| PyValueError::new_err(format!("a picture of {width}x{height}; sides are 1 to {MAX_SIDE}")))?;
    // Straight into the result: a second buffer of this size costs more than the conversion.
    PyByteArray::new_with(py, size, |out| {
        py.detach(|| pixels::convert_into(bytes.as_slice(), width, height, from, to, flip_y, out)).map_err(codec_error)
    })
}
