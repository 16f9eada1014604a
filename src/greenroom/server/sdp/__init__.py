"""Session descriptions: read what clients send, write what the server answers and offers. No I/O, no state."""

from .build import (
    MAX_MESSAGE_SIZE,
    LocalTransport,
    OfferedSection,
    Outgoing,
    PublishOptions,
    build_answer,
    build_offer,
    offer_codecs,
)
from .codecs import accepted_codecs, accepted_extensions, native_codecs
from .model import MediaSection, Rid, RtpCodec, SdpError, SessionDescription

__all__ = [
    "MAX_MESSAGE_SIZE",
    "LocalTransport",
    "MediaSection",
    "OfferedSection",
    "Outgoing",
    "PublishOptions",
    "Rid",
    "RtpCodec",
    "SdpError",
    "SessionDescription",
    "accepted_codecs",
    "accepted_extensions",
    "build_answer",
    "build_offer",
    "native_codecs",
    "offer_codecs",
]
