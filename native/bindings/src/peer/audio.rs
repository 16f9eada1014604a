use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use greenroom_codecs::resample;
use greenroom_peer::audio::input;
use greenroom_peer::audio::sink::AudioFrame;

use super::buffer::{Bytes, Export};
use super::engine::PeerEngine;
use super::error::raise;

#[pyclass(module = "greenroom._native", frozen)]
pub struct AudioInput {
    pub input: Arc<input::AudioInput>,
}

#[pymethods]
impl AudioInput {
    #[new]
    fn new(engine: &PeerEngine, sample_rate: u32, channels: usize, queue_ms: u32) -> PyResult<Self> {
        let input = engine.engine.audio_input(sample_rate, channels, queue_ms).map_err(raise)?;
        Ok(Self { input })
    }

    #[getter]
    fn id(&self) -> u64 {
        self.input.id()
    }

    fn push(&self, py: Python<'_>, pcm: &Bound<'_, PyAny>) -> PyResult<bool> {
        let bytes = Bytes::of(pcm)?;
        let samples = bytes.as_samples()?;
        py.detach(|| self.input.push(&samples)).map_err(raise)
    }

    fn queued_ms(&self) -> f64 {
        self.input.queued_ms()
    }

    fn clear(&self) {
        self.input.clear();
    }

    fn close(&self) {
        self.input.close();
    }
}

/// Buffer protocol: read-only int16.
#[pyclass(module = "greenroom._native", frozen)]
pub struct NativeAudioFrame {
    frame: AudioFrame,
    export: Export,
}

impl NativeAudioFrame {
    fn new(frame: AudioFrame) -> Self {
        let export = Export::new(frame.pcm.len(), 2, c"h");
        Self { frame, export }
    }
}

#[pymethods]
impl NativeAudioFrame {
    #[getter]
    fn sample_rate(&self) -> u32 {
        self.frame.sample_rate
    }

    #[getter]
    fn channels(&self) -> usize {
        self.frame.channels
    }

    #[getter]
    fn samples_per_channel(&self) -> usize {
        self.frame.samples_per_channel()
    }

    #[getter]
    fn concealed(&self) -> bool {
        self.frame.concealed
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let frame = slf.get();
        // SAFETY: the samples are immutable behind an Arc that the object holds.
        unsafe { frame.export.fill(slf.as_any().clone(), frame.frame.pcm.as_ptr().cast::<c_void>(), view, flags) }
    }
}

#[pyclass(module = "greenroom._native", frozen)]
pub struct AudioSink {
    pub sink: greenroom_peer::AudioSink,
}

#[pymethods]
impl AudioSink {
    #[getter]
    fn id(&self) -> u64 {
        self.sink.id()
    }

    fn read(&self) -> Vec<NativeAudioFrame> {
        self.sink.read().into_iter().map(NativeAudioFrame::new).collect()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.sink.close());
    }
}

#[pyclass(module = "greenroom._native", frozen)]
pub struct Resampler {
    inner: Mutex<resample::Resampler>,
}

impl Resampler {
    fn run(
        &self,
        py: Python<'_>,
        step: impl FnOnce(&mut resample::Resampler, &mut Vec<i16>) -> Result<(), greenroom_codecs::CodecError> + Send,
    ) -> PyResult<Py<PyBytes>> {
        let out = py
            .detach(|| {
                let mut out = Vec::new();
                let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
                step(&mut inner, &mut out).map(|()| out)
            })
            .map_err(|error| PyValueError::new_err(error.0))?;
        // SAFETY: samples read as their bytes.
        let bytes = unsafe { std::slice::from_raw_parts(out.as_ptr().cast::<u8>(), out.len() * 2) };
        Ok(PyBytes::new(py, bytes).unbind())
    }
}

#[pymethods]
impl Resampler {
    #[new]
    fn new(input_rate: u32, output_rate: u32, channels: usize) -> PyResult<Self> {
        let inner = resample::Resampler::new(input_rate, output_rate, channels)
            .map_err(|error| PyValueError::new_err(error.0))?;
        Ok(Self { inner: Mutex::new(inner) })
    }

    fn push(&self, py: Python<'_>, pcm: &Bound<'_, PyAny>) -> PyResult<Py<PyBytes>> {
        let bytes = Bytes::of(pcm)?;
        let samples = bytes.as_samples()?;
        self.run(py, |inner, out| inner.push(&samples, out))
    }

    fn flush(&self, py: Python<'_>) -> PyResult<Py<PyBytes>> {
        self.run(py, |inner, out| inner.flush(out))
    }
}
