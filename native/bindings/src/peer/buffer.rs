//! Bytes of Python objects, read and given without a copy.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

/// The contiguous bytes of any object with the buffer protocol, whatever it says about its items.
pub struct Bytes {
    view: Box<ffi::Py_buffer>,
}

// SAFETY: the exporter keeps the memory in place until the buffer is released, which happens with the GIL held (`drop`).
unsafe impl Send for Bytes {}
// SAFETY: as above; through a shared reference the memory is only read.
unsafe impl Sync for Bytes {}

impl Bytes {
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut view = Box::new(MaybeUninit::<ffi::Py_buffer>::zeroed());
        // SAFETY: the view is written by the call and used only after it succeeded.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), ffi::PyBUF_SIMPLE) } != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        // SAFETY: initialised by the successful call.
        Ok(Self { view: unsafe { Box::from_raw(Box::into_raw(view).cast()) } })
    }

    pub fn as_slice(&self) -> &[u8] {
        if self.view.len == 0 {
            return &[];
        }
        // SAFETY: the exporter promises `len` bytes at `buf` while the view is held. A program that writes to them
        // meanwhile changes what is sent, as it would with any such interface.
        unsafe { std::slice::from_raw_parts(self.view.buf.cast::<u8>(), self.view.len as usize) }
    }

    /// The bytes as native 16-bit samples.
    pub fn as_samples(&self) -> PyResult<std::borrow::Cow<'_, [i16]>> {
        let bytes = self.as_slice();
        if !bytes.len().is_multiple_of(2) {
            return Err(PyValueError::new_err(format!("{} bytes are not whole 16-bit samples", bytes.len())));
        }
        // SAFETY: any two bytes are a valid i16; `align_to` cares for alignment.
        let (head, samples, tail) = unsafe { bytes.align_to::<i16>() };
        Ok(if head.is_empty() && tail.is_empty() {
            samples.into()
        } else {
            bytes.chunks_exact(2).map(|pair| i16::from_ne_bytes([pair[0], pair[1]])).collect::<Vec<_>>().into()
        })
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        Python::attach(|_| {
            // SAFETY: the view was filled by PyObject_GetBuffer and is released once, with the GIL held.
            unsafe { ffi::PyBuffer_Release(&mut *self.view) }
        });
    }
}

/// What a read-only one-dimensional buffer is made of. The strides and shape live as long as the exporting object.
pub struct Export {
    shape: isize,
    stride: isize,
    format: &'static std::ffi::CStr,
}

impl Export {
    pub fn new(items: usize, item_size: usize, format: &'static std::ffi::CStr) -> Self {
        Self { shape: items as isize, stride: item_size as isize, format }
    }

    /// Fill `view` for `owner`, which keeps `data` alive and in place.
    ///
    /// # Safety
    /// `view` is the argument of a getbuffer call, `self` and `data` live as long as `owner`.
    pub unsafe fn fill(
        &self,
        owner: Bound<'_, PyAny>,
        data: *const c_void,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        // SAFETY: the interpreter gave a writable view; see the function's contract for the rest.
        unsafe {
            if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
                (*view).obj = std::ptr::null_mut();
                return Err(PyBufferError::new_err("the frame is read-only"));
            }
            let asked = |flag: c_int| flags & flag == flag;
            (*view).buf = data.cast_mut();
            (*view).len = self.shape * self.stride;
            (*view).readonly = 1;
            (*view).itemsize = self.stride;
            (*view).format = match asked(ffi::PyBUF_FORMAT) {
                true => self.format.as_ptr().cast_mut(),
                false => std::ptr::null_mut(),
            };
            (*view).ndim = 1;
            let shape = (&raw const self.shape).cast_mut();
            let stride = (&raw const self.stride).cast_mut();
            (*view).shape = if asked(ffi::PyBUF_ND) { shape } else { std::ptr::null_mut() };
            (*view).strides = if asked(ffi::PyBUF_STRIDES) { stride } else { std::ptr::null_mut() };
            (*view).suboffsets = std::ptr::null_mut();
            (*view).internal = std::ptr::null_mut();
            (*view).obj = owner.into_ptr();
        }
        Ok(())
    }
}
