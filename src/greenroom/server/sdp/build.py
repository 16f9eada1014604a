"""Answers and offers of the server: DTLS-passive, ICE-lite, everything in one bundle."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .codecs import (
    ABS_CAPTURE_TIME,
    ABS_SEND_TIME,
    DEPENDENCY_DESCRIPTOR,
    MID,
    TRANSPORT_CC,
    VIDEO_FEEDBACK,
    accepted_codecs,
    accepted_extensions,
)
from .model import REVERSE, MediaSection, Rid, RtpCodec, SessionDescription

__all__ = [
    "MAX_MESSAGE_SIZE",
    "CodecChoice",
    "LocalTransport",
    "OfferedSection",
    "Outgoing",
    "PublishOptions",
    "build_answer",
    "build_offer",
    "offer_codecs",
]

MAX_MESSAGE_SIZE = 65535
"""`a=max-message-size`: the longest data-channel message that the server takes."""

OPUS_FMTP = "minptime=10;useinbandfec=1"
STEREO_FMTP = "stereo=1;maxaveragebitrate=510000"


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """Our end of a peer connection."""

    ufrag: str
    pwd: str
    fingerprint: str
    """`sha-256 AB:..`"""
    addresses: tuple[tuple[str, int], ...]
    """(IP, UDP port) pairs that become host candidates."""

    def candidates(self) -> list[str]:
        """One host candidate an address (RFC 8445 5.1.2.1), the first preferred."""
        out = []
        for index, (ip, port) in enumerate(self.addresses):
            priority = 126 << 24 | (65535 - index) << 8 | 255
            out.append(f"{index + 1} 1 udp {priority} {ip} {port} typ host")
        return out


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """What `AddTrackRequest` says about a section on which the client sends."""

    dtx: bool = True
    stereo: bool = False
    red: bool = False
    """Prefer RED over plain Opus."""
    codec: str = ""
    """The video codec that the client means to send, lower case without the kind; it comes first in the answer."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A track that the server sends on a section."""

    stream_id: str
    track_id: str
    cname: str
    ssrc: int
    rtx_ssrc: int = 0

    def describe(self, section: MediaSection) -> None:
        """Write msid, SSRC and FID lines (RFC 8830, RFC 5576) into the section."""
        section.msid = (self.stream_id, self.track_id)
        ssrcs = [self.ssrc]
        if self.rtx_ssrc:
            ssrcs.append(self.rtx_ssrc)
            section.ssrc_groups.append(("FID", (self.ssrc, self.rtx_ssrc)))
        for ssrc in ssrcs:
            section.ssrcs[ssrc] = {"cname": self.cname, "msid": f"{self.stream_id} {self.track_id}"}


def build_answer(
    offer: SessionDescription,
    local: LocalTransport,
    *,
    session: tuple[int, int],
    enabled: Iterable[str],
    publishable: Iterable[str] | None = None,
    publish: Mapping[str, PublishOptions],
    send: Mapping[str, Outgoing],
    silent: Collection[str] = (),
    choice: CodecChoice | None = None,
) -> SessionDescription:
    """Answer a client's offer.

    `enabled`: MIME types that may be used; `publishable`: those that the client may send, if these are fewer.
    `publish` and `send` map mids to what the client sends and what we send there. A section on which the client wants to
    receive is answered `sendonly` even while it is free, except those in `silent`: they carried a track that is gone
    and become `inactive`, so that the client sees it end. Payload types and extension ids are the client's. `choice`: what
    the caller has already asked about this offer.
    """
    enabled = tuple(enabled)
    sendable = enabled if publishable is None else tuple(publishable)
    answer = SessionDescription(*session, ice_lite=True, extmap_allow_mixed=offer.extmap_allow_mixed)
    choice = choice or CodecChoice()
    for offered in offer.media:
        options = (publish.get(offered.mid) or PublishOptions()) if offered.sends else None
        codecs = choice.codecs(offered, sendable if options else enabled, options)
        section = _answer_section(offered, codecs, send.get(offered.mid))
        if offered.mid in silent and section.direction == "sendonly":
            section.direction = "inactive"
        answer.media.append(section)
    waits = any(section.setup == "passive" for section in offer.media if section.port)
    _add_transport(answer, local, "active" if waits else "passive")
    return answer


class CodecChoice:
    """The codecs of an answer, worked out once for all sections that list the same: most of an offer is repetition."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], tuple[list[RtpCodec], list[RtpCodec]]] = {}
        """By the identity of the offered list, which is kept so that it stays what it is."""

    def codecs(self, offered: MediaSection, enabled: tuple[str, ...], options: PublishOptions | None) -> list[RtpCodec]:
        """`options`: for a section on which the client sends."""
        if not offered.is_rtp:
            return []
        key = (id(offered.codecs), offered.kind, enabled, options)
        found = self._known.get(key)
        if found is None:
            codecs = accepted_codecs(offered, enabled)
            if offered.kind == "audio":
                _audio_parameters(codecs, options)
            elif options and options.codec:
                codecs.sort(key=lambda codec: codec.key != options.codec)
            found = self._known[key] = (offered.codecs, codecs)
        return found[1]


def _answer_section(offered: MediaSection, codecs: list[RtpCodec], outgoing: Outgoing | None) -> MediaSection:
    section = MediaSection(offered.kind, offered.mid, protocol=offered.protocol, direction=REVERSE[offered.direction])
    if offered.rejected:
        return _reject(section, offered)
    if offered.kind == "application":
        if "SCTP" not in offered.protocol:
            return _reject(section, offered)
        section.formats = list(offered.formats)
        section.sctp_port = 5000
        section.max_message_size = MAX_MESSAGE_SIZE
        return section
    section.codecs = codecs
    if not section.codecs:
        return _reject(section, offered)
    section.extensions = accepted_extensions(offered)
    section.rtcp_mux = section.rtcp_rsize = True
    if offered.sends and (rids := offered.simulcast.get("send")):
        # Of the rids only those in the simulcast line are sent; without it a single a=rid means nothing to us.
        section.rids = [Rid(rid.id, "recv") for rid in offered.rids if rid.id in rids and rid.direction == "send"]
        section.simulcast = {"recv": [rid for rid in rids if any(r.id == rid for r in section.rids)]}
        if not section.rids:
            section.simulcast = {}
    if outgoing and offered.receives:
        outgoing.describe(section)
    elif section.direction == "sendrecv":
        section.direction = "recvonly"
    return section


def _audio_parameters(codecs: list[RtpCodec], options: PublishOptions | None) -> None:
    """Our wishes for Opus: what the client shall send when `options` is given."""
    for codec in codecs:
        if codec.key == "opus":
            codec.fmtp = OPUS_FMTP
            if options and options.stereo:
                codec.fmtp += ";" + STEREO_FMTP
            if options and options.dtx:
                codec.fmtp += ";usedtx=1"
    if options:
        # The first codec of the answer is the one that the client sends.
        codecs.sort(key=lambda codec: (codec.key == "red") != options.red if codec.key in ("red", "opus") else 2)


def _reject(section: MediaSection, offered: MediaSection) -> MediaSection:
    section.port = 0
    section.direction = "inactive"
    section.codecs = [RtpCodec(c.pt, c.name, c.clock_rate, c.channels) for c in offered.codecs[:1] if c.name]
    section.formats = list(offered.formats)
    return section


@dataclass(slots=True)
class OfferedSection:
    """One section of an offer of ours, in order of its mid."""

    mid: str
    kind: str
    outgoing: Outgoing | None = None
    codecs: list[RtpCodec] = field(default_factory=list)


def build_offer(
    local: LocalTransport,
    *,
    session: tuple[int, int],
    sections: Sequence[OfferedSection],
) -> SessionDescription:
    """Offer the data section and the tracks that we send (dual mode). A section without a track is inactive."""
    offer = SessionDescription(*session, ice_lite=True, extmap_allow_mixed=True)
    for wanted in sections:
        if wanted.kind == "application":
            section = MediaSection(
                "application",
                wanted.mid,
                protocol="UDP/DTLS/SCTP",
                formats=["webrtc-datachannel"],
                sctp_port=5000,
                max_message_size=MAX_MESSAGE_SIZE,
            )
        else:
            section = MediaSection(wanted.kind, wanted.mid, direction="sendonly" if wanted.outgoing else "inactive")
            section.codecs = wanted.codecs
            section.extensions = dict(OFFER_EXTENSIONS[wanted.kind])
            section.rtcp_mux = section.rtcp_rsize = True
            if wanted.outgoing:
                wanted.outgoing.describe(section)
        offer.media.append(section)
    _add_transport(offer, local, "actpass")
    return offer


# One id means one extension in a whole bundle, so audio and video share the numbering.
OFFER_EXTENSIONS = {
    "audio": {4: MID, 2: ABS_CAPTURE_TIME},
    "video": {4: MID, 1: DEPENDENCY_DESCRIPTOR, 2: ABS_CAPTURE_TIME, 3: ABS_SEND_TIME, 5: TRANSPORT_CC},
}

# Payload types of our offers.
OFFER_AUDIO = (
    (111, "opus", 48000, 2, OPUS_FMTP),
    (63, "red", 48000, 2, "111/111"),
    (0, "PCMU", 8000, 1, ""),
    (8, "PCMA", 8000, 1, ""),
)
OFFER_VIDEO = (
    (96, 97, "VP8", ""),
    (98, 99, "VP9", "profile-id=0"),
    (125, 126, "H264", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f"),
    (108, 109, "H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    (104, 105, "H264", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f"),
    (102, 103, "H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"),
    (35, 36, "AV1", ""),
    (116, 117, "H265", ""),
)


def offer_codecs(kind: str, enabled: Iterable[str], *, stereo: bool = False) -> list[RtpCodec]:
    """The codecs of an offered section of `kind`, RTX after each video codec. `stereo`: Opus comes in stereo."""
    wanted = {mime.lower() for mime in enabled}
    out = []
    if kind == "audio":
        for pt, name, rate, channels, fmtp in OFFER_AUDIO:
            if f"audio/{name.lower()}" in wanted:
                fmtp += ";sprop-stereo=1" if stereo and name == "opus" else ""
                out.append(RtpCodec(pt, name, rate, channels, fmtp, ["nack"] if name == "opus" else []))
        return out
    for pt, rtx, name, fmtp in OFFER_VIDEO:
        if f"video/{name.lower()}" in wanted:
            out.append(RtpCodec(pt, name, 90000, 1, fmtp, list(VIDEO_FEEDBACK)))
            out.append(RtpCodec(rtx, "rtx", 90000, 1, f"apt={pt}"))
    return out


def _add_transport(description: SessionDescription, local: LocalTransport, setup: str) -> None:
    alive = [section for section in description.media if section.port]
    description.bundle = [section.mid for section in alive]
    for section in alive:
        section.setup = setup
        section.ice_ufrag, section.ice_pwd = local.ufrag, local.pwd
        section.fingerprint = local.fingerprint
    if alive:
        # The first section's transport is the bundle's, so candidates elsewhere would never be used (RFC 9143 7.1.3).
        alive[0].candidates = local.candidates()
        alive[0].end_of_candidates = True
