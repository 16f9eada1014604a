"""Session descriptions as plain data (RFC 8866, JSEP RFC 8829), with a parser and a writer.

Only what a WebRTC session uses is kept; unknown lines are skipped, so `parse` accepts what browsers will invent next.
`SessionDescription.parse(text).to_text()` gives the same description again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "MAX_SECTIONS",
    "MediaSection",
    "Rid",
    "RtpCodec",
    "SdpError",
    "SessionDescription",
]

MAX_SECTIONS = 1024
"""More m-lines than this is not a call but an attack; the next three bound what one section may list."""
MAX_FORMATS = 128
MAX_RIDS = 16
MAX_SSRCS = 64

DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
REVERSE = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}

# Payload formats without an a=rtpmap line (RFC 3551).
STATIC_CODECS = {0: ("PCMU", 8000), 8: ("PCMA", 8000), 9: ("G722", 8000)}


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

    def lines(self) -> list[str]:
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
        for codec in self.codecs:
            channels = f"/{codec.channels}" if codec.channels > 1 else ""
            out.append(f"a=rtpmap:{codec.pt} {codec.name}/{codec.clock_rate}{channels}")
            if codec.fmtp:
                out.append(f"a=fmtp:{codec.pt} {codec.fmtp}")
            out += [f"a=rtcp-fb:{codec.pt} {feedback}" for feedback in codec.feedback]
        out += [f"a=extmap:{number} {uri}" for number, uri in self.extensions.items()]
        out += [f"a=rid:{rid.id} {rid.direction}" + (f" {rid.restrictions}" if rid.restrictions else "")
                for rid in self.rids]
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
        description = cls()
        session = MediaSection("session", direction="")
        section = session
        seen_version = False
        for raw in text.splitlines():
            line = raw.strip()
            if len(line) < 2 or line[1] != "=":
                if line:
                    raise SdpError(f"not a line of SDP: {line[:80]!r}")
                continue
            name, value = line[0], line[2:]
            try:
                if name == "v":
                    seen_version = True
                elif name == "o":
                    parts = value.split()
                    description.session_id, description.version = int(parts[1]), int(parts[2])
                elif name == "m":
                    section = _media_line(value)
                    if len(description.media) >= MAX_SECTIONS:
                        raise SdpError(f"more than {MAX_SECTIONS} media sections")
                    description.media.append(section)
                elif name == "a":
                    _attribute(description, section, value)
            except SdpError:
                raise
            except (ValueError, IndexError) as error:
                raise SdpError(f"cannot read {line[:80]!r}") from error
        if not seen_version:
            raise SdpError("no v= line")
        for section in description.media:
            _inherit(section, session)
        mids = [section.mid for section in description.media]
        if len(set(mids)) != len(mids):
            raise SdpError("two media sections have the same mid")
        return description

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
        for section in self.media:
            out += section.lines()
        return "\r\n".join(out) + "\r\n"


def _media_line(value: str) -> MediaSection:
    kind, port, protocol, *formats = value.split()
    section = MediaSection(kind, port=int(port.partition("/")[0]), protocol=protocol, direction="")
    if len(formats) > MAX_FORMATS:
        raise SdpError(f"more than {MAX_FORMATS} formats in a media section")
    if section.is_rtp:
        for text in formats:
            pt = int(text)
            if not 0 <= pt <= 127:
                raise SdpError(f"payload type {pt} is out of range")
            if section.codec(pt) is None:
                name, rate = STATIC_CODECS.get(pt, ("", 0))
                section.codecs.append(RtpCodec(pt, name, rate))
    else:
        section.formats = formats
    return section


def _attribute(description: SessionDescription, section: MediaSection, text: str) -> None:
    name, _, value = text.partition(":")
    if name in DIRECTIONS:
        section.direction = name
    elif name == "mid":
        section.mid = value
    elif name == "ice-ufrag":
        section.ice_ufrag = value
    elif name == "ice-pwd":
        section.ice_pwd = value
    elif name == "fingerprint":
        section.fingerprint = value
    elif name == "setup":
        section.setup = value
    elif name == "candidate":
        section.candidates.append(value)
    elif name == "end-of-candidates":
        section.end_of_candidates = True
    elif name == "bundle-only":
        section.bundle_only = True
    elif name == "rtcp-mux":
        section.rtcp_mux = True
    elif name == "rtcp-rsize":
        section.rtcp_rsize = True
    elif name == "sctp-port":
        section.sctp_port = int(value)
    elif name == "max-message-size":
        section.max_message_size = int(value)
    elif name == "ice-lite":
        description.ice_lite = True
    elif name == "extmap-allow-mixed":
        description.extmap_allow_mixed = True
    elif name == "group" and value.startswith("BUNDLE"):
        description.bundle = value.split()[1:]
    elif section.is_rtp:
        _rtp_attribute(section, name, value)


def _rtp_attribute(section: MediaSection, name: str, value: str) -> None:
    if name == "rtpmap":
        pt, _, encoding = value.partition(" ")
        codec = section.codec(int(pt))
        if codec is not None:
            codec.name, rate, *channels = encoding.strip().split("/")
            codec.clock_rate = int(rate)
            codec.channels = int(channels[0]) if channels else 1
    elif name == "fmtp":
        pt, _, parameters = value.partition(" ")
        codec = section.codec(int(pt))
        if codec is not None:
            codec.fmtp = parameters.strip()
    elif name == "rtcp-fb":
        pt, _, feedback = value.partition(" ")
        wanted = section.codecs if pt == "*" else [section.codec(int(pt))]
        for codec in wanted:
            if codec is not None:
                codec.feedback.append(feedback.strip())
    elif name == "extmap":
        number, uri, *_ = value.split()
        number = int(number.partition("/")[0])
        if not 1 <= number <= 255:
            raise SdpError(f"header extension id {number} is out of range")
        section.extensions[number] = uri
    elif name == "rid":
        rid, direction, *restrictions = value.split(maxsplit=2)
        if len(section.rids) >= MAX_RIDS:
            raise SdpError(f"more than {MAX_RIDS} rids in a media section")
        section.rids.append(Rid(rid, direction, restrictions[0] if restrictions else ""))
    elif name == "simulcast":
        parts = value.split()
        for way, streams in zip(parts[::2], parts[1::2], strict=False):
            rids = streams.split(";", MAX_RIDS)
            if len(rids) > MAX_RIDS:
                raise SdpError(f"more than {MAX_RIDS} simulcast streams in a media section")
            section.simulcast[way] = [rid.split(",")[0].lstrip("~") for rid in rids]
    elif name == "msid":
        stream, _, track = value.strip().partition(" ")
        section.msid = (stream, track)
    elif name == "ssrc":
        if len(section.ssrcs) > MAX_SSRCS or len(section.ssrc_groups) > MAX_SSRCS:
            raise SdpError(f"more than {MAX_SSRCS} sources in a media section")
        ssrc, _, attribute = value.partition(" ")
        key, _, content = attribute.partition(":")
        section.ssrcs.setdefault(_ssrc(ssrc), {})[key] = content
    elif name == "ssrc-group":
        semantics, *ssrcs = value.split(None, MAX_SSRCS)
        if len(section.ssrc_groups) >= MAX_SSRCS:
            raise SdpError(f"more than {MAX_SSRCS} source groups in a media section")
        section.ssrc_groups.append((semantics, tuple(map(_ssrc, ssrcs))))


def _ssrc(text: str) -> int:
    ssrc = int(text)
    if not 0 <= ssrc < 1 << 32:
        raise SdpError(f"SSRC {ssrc} is out of range")
    return ssrc


def _inherit(section: MediaSection, session: MediaSection) -> None:
    for name in ("ice_ufrag", "ice_pwd", "fingerprint", "setup"):
        if not getattr(section, name):
            setattr(section, name, getattr(session, name))
    section.direction = section.direction or session.direction or "sendrecv"
