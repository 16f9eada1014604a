"""Which codecs and header extensions the server takes from an offer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from greenroom.server.media import Codec

from .model import MediaSection, RtpCodec

__all__ = [
    "ABS_CAPTURE_TIME",
    "ABS_SEND_TIME",
    "AUDIO_LEVEL",
    "DEPENDENCY_DESCRIPTOR",
    "MID",
    "PLAYOUT_DELAY",
    "REPAIRED_STREAM_ID",
    "STREAM_ID",
    "TRANSPORT_CC",
    "accepted_codecs",
    "accepted_extensions",
    "can_receive",
    "native_codecs",
]

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
STREAM_ID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_STREAM_ID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
ABS_CAPTURE_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
PLAYOUT_DELAY = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
DEPENDENCY_DESCRIPTOR = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"

# The set must be taken by the FIRST answer: libwebrtc leaves what it refused out of every later section of the bundle,
# and without rtp-stream-id the first simulcast publish fails in the client.
AUDIO_EXTENSIONS = frozenset({MID, AUDIO_LEVEL, ABS_CAPTURE_TIME})
VIDEO_EXTENSIONS = frozenset(
    {MID, STREAM_ID, REPAIRED_STREAM_ID, TRANSPORT_CC, ABS_SEND_TIME, DEPENDENCY_DESCRIPTOR, ABS_CAPTURE_TIME}
)

VIDEO_FEEDBACK = ("goog-remb", "transport-cc", "ccm fir", "nack", "nack pli")
AUDIO_FEEDBACK = ("nack",)


def accepted_extensions(offered: MediaSection) -> dict[int, str]:
    """The offered header extensions that the server understands, with the client's ids."""
    known = AUDIO_EXTENSIONS if offered.kind == "audio" else VIDEO_EXTENSIONS
    return {number: uri for number, uri in offered.extensions.items() if uri in known}


def accepted_codecs(offered: MediaSection, enabled: Iterable[str]) -> list[RtpCodec]:
    """Copies of the offered codecs that are enabled, in the client's order and with its payload types.

    `enabled`: MIME types such as "video/VP8". RTX formats follow the codec they repair. fmtp of video is the client's
    own, so that one payload type means the same in all sections of a bundle.
    """
    wanted = _names(tuple(enabled), offered.kind)
    accepted = {codec.pt: codec for codec in offered.codecs if codec.key in wanted and _profile_is_forwardable(codec)}
    # RED without the codec it wraps (RFC 2198) cannot be unpacked for anybody.
    if offered.kind == "audio":
        opus = {codec.pt for codec in accepted.values() if codec.key == "opus"}
        for pt, codec in list(accepted.items()):
            if codec.key == "red" and not opus.intersection(_red_payloads(codec)):
                del accepted[pt]
    supported = VIDEO_FEEDBACK if offered.kind == "video" else AUDIO_FEEDBACK
    out = []
    for codec in offered.codecs:
        if codec.pt in accepted:
            feedback = [name for name in supported if name in codec.feedback]
            out.append(RtpCodec(codec.pt, codec.name, codec.clock_rate, codec.channels, codec.fmtp, feedback))
        elif codec.key == "rtx" and codec.apt in accepted:
            out.append(RtpCodec(codec.pt, codec.name, codec.clock_rate, codec.channels, codec.fmtp))
    return out


def native_codecs(section: MediaSection) -> tuple[Codec, ...]:
    """The section's codecs as the native core wants them: RTX folded into the codec it repairs."""
    return tuple(
        Codec(
            pt=codec.pt,
            name=codec.key,
            clock_rate=codec.clock_rate,
            channels=codec.channels,
            rtx_pt=rtx.pt if (rtx := section.rtx_of(codec.pt)) else 0,
            fmtp=codec.fmtp,
        )
        for codec in section.codecs
        if codec.key != "rtx"
    )


def can_receive(receiver: Sequence[RtpCodec], sent: Sequence[RtpCodec]) -> bool:
    """Whether a section with the codecs `receiver` takes one of those that may be `sent`. Nothing known of these: yes.

    The same rules as those of the native core, which forwards nothing to a payload type that does not fit.
    """
    return bool(receiver) and (not sent or any(_takes(receiver, codec) for codec in sent))


def _takes(receiver: Sequence[RtpCodec], sent: RtpCodec) -> bool:
    # RED is forwarded as it is, renumbered, or reduced to the Opus inside (RFC 2198).
    formats = _format(sent) if sent.key != "red" else ("opus", sent.clock_rate)
    return any(_format(codec) == formats for codec in receiver)


def _format(codec: RtpCodec) -> tuple[object, ...]:
    """What must be equal for a payload to be decoded at the other end."""
    key = codec.key
    if key == "h264":
        # RFC 6184 8.2.2: the packetization mode must be the same (absent: 0). Of profile-level-id only profile_idc counts:
        # the level is asymmetric in WebRTC, and what browsers send as baseline obeys the constraints of 42e0 too.
        parameters = codec.parameters
        profile = parameters.get("profile-level-id", "42e01f")[:2].lower()
        return key, codec.clock_rate, parameters.get("packetization-mode", "0"), profile
    if key == "vp9":
        return key, codec.clock_rate, codec.parameters.get("profile-id", "0")
    if key == "av1":
        return key, codec.clock_rate, codec.parameters.get("profile", "0")
    return key, codec.clock_rate


@cache
def _names(enabled: tuple[str, ...], kind: str) -> frozenset[str]:
    """The enabled codecs of a kind, lower case, without RTX, which comes with the codec it repairs."""
    names = (mime.lower().partition("/") for mime in enabled)
    return frozenset(name for of, _, name in names if of == kind) - {"rtx"}


def _profile_is_forwardable(codec: RtpCodec) -> bool:
    """A profile which every other participant can decode, so that no stream is forwarded to a black picture."""
    if codec.key == "h264":
        return codec.parameters.get("profile-level-id", "42e01f").lower().startswith("42")
    if codec.key == "vp9":
        return codec.parameters.get("profile-id", "0") == "0"
    if codec.key == "av1":
        return codec.parameters.get("profile", "0") == "0"
    return True


def _red_payloads(codec: RtpCodec) -> set[int]:
    return {int(part) for part in codec.fmtp.split("/") if part.strip().isascii() and part.strip().isdigit()}
