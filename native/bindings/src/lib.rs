//! The Python module `greenroom._native`: the only crate that knows Python.
//!
//! Its surface is described in `src/greenroom/_native.pyi`.
#![warn(clippy::unwrap_used)]

use pyo3::prelude::*;

mod load;
mod peer;
mod server;

#[pymodule]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    server::register(m)?;
    peer::register(m)?;
    load::register(m)
}
