use std::fmt;

/// What went wrong in a codec or a conversion, in one sentence for the caller's exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecError(pub String);

impl CodecError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CodecError {}

impl From<::opus::Error> for CodecError {
    fn from(error: ::opus::Error) -> Self {
        Self(format!("Opus: {error}"))
    }
}
