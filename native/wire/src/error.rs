//! The one error type of the crate.

/// Why bytes were refused. Carries no payload, so that refusing a packet costs nothing; callers count by variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireError {
    /// The input ends before the structure it announces.
    Truncated,
    /// The version or magic number is not that of the protocol.
    Version,
    /// A length field contradicts the bytes around it.
    Length,
    /// A field holds a value the specification forbids.
    Value,
    /// An integrity check (MESSAGE-INTEGRITY, FINGERPRINT) is absent or does not match.
    Integrity,
    /// The output buffer given by the caller is too small.
    NoSpace,
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            WireError::Truncated => "input ends too early",
            WireError::Version => "not this protocol's version or magic",
            WireError::Length => "length field contradicts the input",
            WireError::Value => "forbidden field value",
            WireError::Integrity => "integrity check failed",
            WireError::NoSpace => "output buffer too small",
        })
    }
}

impl std::error::Error for WireError {}
