use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use greenroom_peer::{Engine, Event};

#[pyclass(module = "greenroom._native", frozen)]
pub struct PeerEngine {
    pub engine: Arc<Engine>,
}

#[pymethods]
impl PeerEngine {
    #[new]
    #[pyo3(signature = (*, codec_threads = 1))]
    fn new(py: Python<'_>, codec_threads: usize) -> PyResult<Self> {
        let engine = py
            .detach(|| Engine::new(codec_threads.clamp(1, 64)))
            .map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self { engine: Arc::new(engine) })
    }

    #[getter]
    fn event_fd(&self) -> RawFd {
        self.engine.events().fd()
    }

    fn poll_events(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        self.engine.events().take().into_iter().filter_map(|event| tuple(py, event).transpose()).collect()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.engine.close());
    }
}

/// None for what the seam does not tell.
fn tuple(py: Python<'_>, event: Event) -> PyResult<Option<Py<PyAny>>> {
    let made = match event {
        Event::Connected(id) => ("connected", id).into_py_any(py),
        Event::Disconnected(id) => ("disconnected", id).into_py_any(py),
        Event::Failed(id, reason) => ("failed", id, reason).into_py_any(py),
        Event::ChannelOpen(id, label) => ("channel", id, label).into_py_any(py),
        Event::ChannelClosed(id, label) => ("channel_closed", id, label).into_py_any(py),
        Event::Data { peer, label, payload, binary } => {
            ("data", peer, label, PyBytes::new(py, &payload), binary).into_py_any(py)
        }
        Event::Drained(id, label) => ("drained", id, label).into_py_any(py),
        Event::Media(id, mid) => ("media", id, mid).into_py_any(py),
        Event::KeyframeRequest(id) => ("keyframe_request", id).into_py_any(py),
        Event::Audio(id) => ("audio", id).into_py_any(py),
        Event::Video(id) => ("video", id).into_py_any(py),
        Event::Encoded(id) => ("encoded", id).into_py_any(py),
        Event::End(id) => ("end", id).into_py_any(py),
        Event::Room(id) => ("room", id).into_py_any(py),
        Event::Silent(id) => ("silent", id).into_py_any(py),
    };
    made.map(Some)
}
