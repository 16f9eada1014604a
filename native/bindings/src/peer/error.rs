//! Errors of peers as Python's exceptions.

use pyo3::PyErr;
use pyo3::exceptions::{PyBufferError, PyRuntimeError, PyValueError};

use greenroom_peer::PeerError;

pub(super) fn raise(error: PeerError) -> PyErr {
    match error {
        PeerError::Invalid(message) => PyValueError::new_err(message),
        PeerError::State(message) => PyRuntimeError::new_err(message),
        PeerError::Full(message) => PyBufferError::new_err(message),
    }
}
