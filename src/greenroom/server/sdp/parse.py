"""Reading SDP text (RFC 8866). Unknown lines are skipped; what one description may list is bounded."""

from __future__ import annotations

from collections.abc import Callable

from .model import MediaSection, Rid, RtpCodec, SdpError, SessionDescription

__all__ = ["parse_description"]

MAX_SECTIONS = 1024
"""More m-lines than this is not a call but an attack; the next three bound what one section may list."""
MAX_FORMATS = 128
MAX_RIDS = 16
MAX_SSRCS = 64

DIRECTIONS = frozenset(("sendrecv", "sendonly", "recvonly", "inactive"))

# Payload formats without an a=rtpmap line (RFC 3551).
STATIC_CODECS = {0: ("PCMU", 8000), 8: ("PCMA", 8000), 9: ("G722", 8000)}

# Attributes whose value is kept as it is, and where.
TEXTS = {
    "mid": "mid",
    "ice-ufrag": "ice_ufrag",
    "ice-pwd": "ice_pwd",
    "fingerprint": "fingerprint",
    "setup": "setup",
}
NUMBERS = {"sctp-port": "sctp_port", "max-message-size": "max_message_size"}
FLAGS = {
    "end-of-candidates": "end_of_candidates",
    "bundle-only": "bundle_only",
    "rtcp-mux": "rtcp_mux",
    "rtcp-rsize": "rtcp_rsize",
}
INHERITED = ("ice_ufrag", "ice_pwd", "fingerprint", "setup")


def parse_description(text: str) -> SessionDescription:
    """See `SessionDescription.parse`."""
    description = SessionDescription()
    session = MediaSection("session", direction="")
    reader = SectionReader(session)
    seen_version = False
    for raw in text.splitlines():
        line = raw.strip()
        if not line:
            continue
        if len(line) < 2 or line[1] != "=":
            raise SdpError(f"not a line of SDP: {line[:80]!r}")
        kind, value = line[0], line[2:]
        try:
            if kind == "a":
                name, _, rest = value.partition(":")
                if not reader.attribute(name, rest):
                    _session_attribute(description, name, rest)
            elif kind == "m":
                if len(description.media) >= MAX_SECTIONS:
                    raise SdpError(f"more than {MAX_SECTIONS} media sections")
                section = _media_line(value)
                description.media.append(section)
                reader = SectionReader(section)
            elif kind == "v":
                seen_version = True
            elif kind == "o":
                parts = value.split()
                description.session_id, description.version = int(parts[1]), int(parts[2])
        except SdpError:
            raise
        except (ValueError, IndexError) as error:
            raise SdpError(f"cannot read {line[:80]!r}") from error
    if not seen_version:
        raise SdpError("no v= line")
    for section in description.media:
        for name in INHERITED:
            if not getattr(section, name):
                setattr(section, name, getattr(session, name))
        section.direction = section.direction or session.direction or "sendrecv"
    mids = [section.mid for section in description.media]
    if len(set(mids)) != len(mids):
        raise SdpError("two media sections have the same mid")
    return description


def _session_attribute(description: SessionDescription, name: str, value: str) -> None:
    if name == "ice-lite":
        description.ice_lite = True
    elif name == "extmap-allow-mixed":
        description.extmap_allow_mixed = True
    elif name == "group" and value.startswith("BUNDLE"):
        description.bundle = value.split()[1:]


def _media_line(value: str) -> MediaSection:
    kind, port, protocol, *formats = value.split()
    section = MediaSection(kind, port=int(port.partition("/")[0]), protocol=protocol, direction="")
    if len(formats) > MAX_FORMATS:
        raise SdpError(f"more than {MAX_FORMATS} formats in a media section")
    if not section.is_rtp:
        section.formats = formats
        return section
    for pt in dict.fromkeys(map(int, formats)):
        if not 0 <= pt <= 127:
            raise SdpError(f"payload type {pt} is out of range")
        name, rate = STATIC_CODECS.get(pt, ("", 0))
        section.codecs.append(RtpCodec(pt, name, rate))
    return section


class SectionReader:
    """Takes the a= lines of one section."""

    def __init__(self, section: MediaSection) -> None:
        self._section = section
        self._codecs = {codec.pt: codec for codec in section.codecs}
        self._rtp: dict[str, Callable[[str], None]] = {}
        if section.is_rtp:
            self._rtp = {
                "rtpmap": self._rtpmap,
                "fmtp": self._fmtp,
                "rtcp-fb": self._feedback,
                "extmap": self._extmap,
                "rid": self._rid,
                "simulcast": self._simulcast,
                "msid": self._msid,
                "ssrc": self._ssrc,
                "ssrc-group": self._ssrc_group,
            }

    def attribute(self, name: str, value: str) -> bool:
        """False: this is nothing that a section has."""
        section = self._section
        if read := self._rtp.get(name):
            read(value)
        elif name in TEXTS:
            setattr(section, TEXTS[name], value)
        elif name in DIRECTIONS:
            section.direction = name
        elif name == "candidate":
            section.candidates.append(value)
        elif name in FLAGS:
            setattr(section, FLAGS[name], True)
        elif name in NUMBERS:
            setattr(section, NUMBERS[name], int(value))
        else:
            return False
        return True

    def _rtpmap(self, value: str) -> None:
        pt, _, encoding = value.partition(" ")
        if codec := self._codecs.get(int(pt)):
            codec.name, rate, *channels = encoding.strip().split("/")
            codec.clock_rate = int(rate)
            codec.channels = int(channels[0]) if channels else 1

    def _fmtp(self, value: str) -> None:
        pt, _, parameters = value.partition(" ")
        if codec := self._codecs.get(int(pt)):
            codec.fmtp = parameters.strip()

    def _feedback(self, value: str) -> None:
        pt, _, feedback = value.partition(" ")
        wanted = list(self._codecs.values()) if pt == "*" else [self._codecs.get(int(pt))]
        for codec in wanted:
            if codec is not None:
                codec.feedback.append(feedback.strip())

    def _extmap(self, value: str) -> None:
        number, uri, *_ = value.split()
        identifier = int(number.partition("/")[0])
        if not 1 <= identifier <= 255:
            raise SdpError(f"header extension id {identifier} is out of range")
        self._section.extensions[identifier] = uri

    def _rid(self, value: str) -> None:
        rid, direction, *restrictions = value.split(maxsplit=2)
        if len(self._section.rids) >= MAX_RIDS:
            raise SdpError(f"more than {MAX_RIDS} rids in a media section")
        self._section.rids.append(Rid(rid, direction, restrictions[0] if restrictions else ""))

    def _simulcast(self, value: str) -> None:
        parts = value.split()
        for way, streams in zip(parts[::2], parts[1::2], strict=False):
            rids = streams.split(";", MAX_RIDS)
            if len(rids) > MAX_RIDS:
                raise SdpError(f"more than {MAX_RIDS} simulcast streams in a media section")
            self._section.simulcast[way] = [rid.split(",")[0].lstrip("~") for rid in rids]

    def _msid(self, value: str) -> None:
        stream, _, track = value.strip().partition(" ")
        self._section.msid = (stream, track)

    def _ssrc(self, value: str) -> None:
        if len(self._section.ssrcs) > MAX_SSRCS:
            raise SdpError(f"more than {MAX_SSRCS} sources in a media section")
        ssrc, _, attribute = value.partition(" ")
        key, _, content = attribute.partition(":")
        self._section.ssrcs.setdefault(_number(ssrc), {})[key] = content

    def _ssrc_group(self, value: str) -> None:
        if len(self._section.ssrc_groups) >= MAX_SSRCS:
            raise SdpError(f"more than {MAX_SSRCS} source groups in a media section")
        semantics, *ssrcs = value.split(None, MAX_SSRCS)
        self._section.ssrc_groups.append((semantics, tuple(map(_number, ssrcs))))


def _number(text: str) -> int:
    ssrc = int(text)
    if not 0 <= ssrc < 1 << 32:
        raise SdpError(f"SSRC {ssrc} is out of range")
    return ssrc
