"""Session descriptions: read what clients send, write what the server answers and offers. No I/O, no state."""

from .build import (
    MAX_MESSAGE_SIZE,
    CodecChoice,
    LocalTransport,
    OfferedSection,
    Outgoing,
    PublishOptions,
    build_answer,
    build_offer,
    offer_codecs,
)
from .codecs import accepted_codecs, accepted_extensions, can_receive, native_codecs
from .model import MediaSection, Rid, RtpCodec, SdpError, SessionDescription
from .parse import parse_in_pieces

__all__ = [
    "MAX_MESSAGE_SIZE",
    "CodecChoice",
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
    "can_receive",
    "native_codecs",
    "offer_codecs",
    "parse_in_pieces",
]
