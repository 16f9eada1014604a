"""Session descriptions as plain data (RFC 8866, JSEP RFC 8829), and their text.

Only what a WebRTC session uses is kept; unknown lines are skipped, so `parse` accepts what browsers will invent next.
`SessionDescription.parse(text).to_text()` gives the same description again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "MediaSection",
    "Rid",
    "RtpCodec",
    "SdpError",
    "SessionDescription",
]

REVERSE = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}


class SdpError(ValueError):
    """The text is not a session description that can be answered."""


@dataclass(slots=True)
class RtpCodec:
    """One payload type of a section: `a=rtpmap`, `a=fmtp` and `a=rtcp-fb`."""

    pt: int
    name: str
    clock_rate: int
    channels: int = 1
    fmtp: str = ""
    feedback: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The name in lower case: opus, red, vp8, rtx, ..."""
        return self.name.lower()

    @property
    def parameters(self) -> dict[str, str]:
        """`fmtp` split at semicolons; a part without `=` maps to an empty string."""
        pairs = (part.strip().partition("=") for part in self.fmtp.split(";") if part.strip())
        return {name.strip().lower(): value.strip() for name, _, value in pairs}

    @property
    def apt(self) -> int | None:
        """The payload type that this RTX format repairs (RFC 4588)."""
        value = self.parameters.get("apt", "")
        return int(value) if value.isascii() and value.isdigit() else None

    def lines(self) -> list[str]:
        channels = f"/{self.channels}" if self.channels > 1 else ""
        out = [f"a=rtpmap:{self.pt} {self.name}/{self.clock_rate}{channels}"]
        if self.fmtp:
            out.append(f"a=fmtp:{self.pt} {self.fmtp}")
        out += [f"a=rtcp-fb:{self.pt} {feedback}" for feedback in self.feedback]
        return out


@dataclass(slots=True, frozen=True)
class Rid:
    """`a=rid` (RFC 8851): one simulcast encoding."""

    id: str
    direction: str
    restrictions: str = ""


@dataclass(slots=True)
class MediaSection:
    """One m-line with its attributes. `formats` is used by the data section only; RTP sections have `codecs`."""

    kind: str
    mid: str = ""
    direction: str = "sendrecv"
    port: int = 9
    protocol: str = "UDP/TLS/RTP/SAVPF"
    formats: list[str] = field(default_factory=list)
    codecs: list[RtpCodec] = field(default_factory=list)
    """Sections of one description share this list where they list the same: replace it, never change it."""
    extensions: dict[int, str] = field(default_factory=dict)
    """Header extension id to URI (RFC 8285), in order."""
    rids: list[Rid] = field(default_factory=list)
    simulcast: dict[str, list[str]] = field(default_factory=dict)
    """`send` or `recv` to rids (RFC 8853); of alternatives only the first is kept, a paused mark is dropped."""
    msid: tuple[str, str] | None = None
    """Stream id and track id."""
    ssrcs: dict[int, dict[str, str]] = field(default_factory=dict)
    ssrc_groups: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    ice_ufrag: str = ""
    ice_pwd: str = ""
    fingerprint: str = ""
    setup: str = ""
    candidates: list[str] = field(default_factory=list)
    """Without the `candidate:` prefix."""
    end_of_candidates: bool = False
    bundle_only: bool = False
    rtcp_mux: bool = False
    rtcp_rsize: bool = False
    sctp_port: int | None = None
    max_message_size: int | None = None

    @property
    def is_rtp(self) -> bool:
        return self.kind in ("audio", "video")

    @property
    def rejected(self) -> bool:
        """Port zero, unless that only says that the section has no transport of its own (RFC 9143)."""
        return self.port == 0 and not self.bundle_only

    @property
    def sends(self) -> bool:
        return self.direction in ("sendrecv", "sendonly")

    @property
    def receives(self) -> bool:
        return self.direction in ("sendrecv", "recvonly")

    def codec(self, pt: int) -> RtpCodec | None:
        return next((codec for codec in self.codecs if codec.pt == pt), None)

    def rtx_of(self, pt: int) -> RtpCodec | None:
        """The RTX format that repairs `pt`."""
        return next((codec for codec in self.codecs if codec.key == "rtx" and codec.apt == pt), None)

    def lines(self, known: dict[int, list[str]] | None = None) -> list[str]:
        """The section's text. `known`: kept by the caller for one description, so that equal codecs are written once."""
        formats = " ".join([str(codec.pt) for codec in self.codecs] if self.is_rtp else self.formats) or "0"
        out = [f"m={self.kind} {self.port} {self.protocol} {formats}", "c=IN IP4 0.0.0.0"]
        if self.setup:
            out.append(f"a=setup:{self.setup}")
        out.append(f"a=mid:{self.mid}")
        if self.ice_ufrag:
            out += [f"a=ice-ufrag:{self.ice_ufrag}", f"a=ice-pwd:{self.ice_pwd}"]
        if self.fingerprint:
            out.append(f"a=fingerprint:{self.fingerprint}")
        out += [f"a=candidate:{candidate}" for candidate in self.candidates]
        if self.end_of_candidates:
            out.append("a=end-of-candidates")
        if self.bundle_only:
            out.append("a=bundle-only")
        if self.rtcp_mux:
            out.append("a=rtcp-mux")
        if self.rtcp_rsize:
            out.append("a=rtcp-rsize")
        codecs = known.get(id(self.codecs)) if known is not None else None
        if codecs is None:
            codecs = [line for codec in self.codecs for line in codec.lines()]
            if known is not None:
                known[id(self.codecs)] = codecs
        out += codecs
        out += [f"a=extmap:{number} {uri}" for number, uri in self.extensions.items()]
        out += [
            f"a=rid:{rid.id} {rid.direction}" + (f" {rid.restrictions}" if rid.restrictions else "")
            for rid in self.rids
        ]
        if self.simulcast:
            out.append("a=simulcast:" + " ".join(f"{way} {';'.join(rids)}" for way, rids in self.simulcast.items()))
        out += [f"a=ssrc-group:{name} {' '.join(map(str, ssrcs))}" for name, ssrcs in self.ssrc_groups]
        for ssrc, attributes in self.ssrcs.items():
            out += [f"a=ssrc:{ssrc} {name}" + (f":{value}" if value else "") for name, value in attributes.items()]
        if self.msid:
            out.append(f"a=msid:{self.msid[0]} {self.msid[1]}".rstrip())
        if self.sctp_port is not None:
            out.append(f"a=sctp-port:{self.sctp_port}")
        if self.max_message_size is not None:
            out.append(f"a=max-message-size:{self.max_message_size}")
        out.append(f"a={self.direction}")
        return out


@dataclass(slots=True)
class SessionDescription:
    """A whole offer or answer. ICE, DTLS and direction attributes of the session level are copied into the sections."""

    session_id: int = 0
    version: int = 0
    bundle: list[str] = field(default_factory=list)
    media: list[MediaSection] = field(default_factory=list)
    ice_lite: bool = False
    extmap_allow_mixed: bool = False

    @classmethod
    def parse(cls, text: str) -> SessionDescription:
        """Read SDP text; raises SdpError with the line that is wrong."""
        from .parse import parse_description

        return parse_description(text)

    def section(self, mid: str) -> MediaSection | None:
        return next((section for section in self.media if section.mid == mid), None)

    def to_text(self) -> str:
        out = ["v=0", f"o=- {self.session_id} {self.version} IN IP4 0.0.0.0", "s=-", "t=0 0"]
        if self.ice_lite:
            out.append("a=ice-lite")
        out.append("a=msid-semantic:WMS *")
        if self.extmap_allow_mixed:
            out.append("a=extmap-allow-mixed")
        if self.bundle:
            out.append("a=group:BUNDLE " + " ".join(self.bundle))
        known: dict[int, list[str]] = {}
        for section in self.media:
            out += section.lines(known)
        return "\r\n".join(out) + "\r\n"
