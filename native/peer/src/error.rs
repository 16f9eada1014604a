use std::fmt;

/// Why a call on a peer did not do what it was asked, in words for the program's exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerError {
    /// A value from outside makes no sense: bad SDP, an unknown mid, an impossible rate.
    Invalid(String),
    /// The call does not fit the state: closed, an offer pending, a channel not open.
    State(String),
    /// The queue is full.
    Full(String),
}

impl PeerError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    pub(crate) fn state(message: impl Into<String>) -> Self {
        Self::State(message.into())
    }

    pub(crate) fn closed() -> Self {
        Self::State("the peer connection is closed".into())
    }
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(message) | Self::State(message) | Self::Full(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for PeerError {}

impl From<greenroom_codecs::CodecError> for PeerError {
    fn from(error: greenroom_codecs::CodecError) -> Self {
        Self::Invalid(error.0)
    }
}
