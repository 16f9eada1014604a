"""Reading SDP text (RFC 8866). Unknown lines are skipped; what one description may list is bounded.

Most of an offer is repetition: every section of a kind lists the same codecs and header extensions. These lines are
collected and read once, and the sections share what came of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from .model import MediaSection, Rid, RtpCodec, SdpError, SessionDescription

__all__ = ["parse_description", "parse_in_pieces"]

MAX_SECTIONS = 1024
"""More m-lines than this is not a call but an attack; the following bound what one section may list."""
MAX_FORMATS = 128
MAX_FEEDBACK = 32
"""a=rtcp-fb lines of one format."""
MAX_RIDS = 16
MAX_SSRCS = 64
MAX_SSRC_ATTRIBUTES = 16
"""Attributes of one source."""
MAX_CANDIDATES = 64
"""Candidates that are kept; more are skipped, because the server does not use them."""
PIECE = 500
"""Lines that are read in one piece: about half a millisecond."""

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

Known = dict[tuple[object, ...], tuple[list[RtpCodec], dict[int, str]]]
"""Payload types and the lines that sections repeat, to what they mean."""


def parse_description(text: str) -> SessionDescription:
    """See `SessionDescription.parse`."""
    pieces = parse_in_pieces(text)
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            parsed: SessionDescription = end.value
            return parsed


def parse_in_pieces(text: str) -> Generator[None, None, SessionDescription]:
    """The same, stopping after every `PIECE` lines for others to do something meanwhile."""
    description = SessionDescription()
    known: Known = {}
    session = MediaSection("session", direction="")
    reader = SectionReader(session, (), known)
    seen_version = False
    for number, raw in enumerate(text.splitlines(), 1):
        if number % PIECE == 0:
            yield
        line = raw.strip()
        if not line:
            continue
        if len(line) < 2 or line[1] != "=":
            raise SdpError(f"not a line of SDP: {line[:80]!r}")
        kind, value = line[0], line[2:]
        try:
            if kind == "a":
                if not reader.attribute(value):
                    _session_attribute(description, value)
            elif kind == "m":
                reader.finish()
                if len(description.media) >= MAX_SECTIONS:
                    raise SdpError(f"more than {MAX_SECTIONS} media sections")
                section, pts = _media_line(value)
                description.media.append(section)
                reader = SectionReader(section, pts, known)
            elif kind == "v":
                seen_version = True
            elif kind == "o":
                parts = value.split()
                description.session_id, description.version = int(parts[1]), int(parts[2])
        except SdpError:
            raise
        except (ValueError, IndexError) as error:
            raise SdpError(f"cannot read {line[:80]!r}") from error
    reader.finish()
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


def _session_attribute(description: SessionDescription, attribute: str) -> None:
    name, _, value = attribute.partition(":")
    if name == "ice-lite":
        description.ice_lite = True
    elif name == "extmap-allow-mixed":
        description.extmap_allow_mixed = True
    elif name == "group" and value.startswith("BUNDLE"):
        description.bundle = value.split()[1:]


def _media_line(value: str) -> tuple[MediaSection, tuple[int, ...]]:
    """The section, and its payload types."""
    kind, port, protocol, *formats = value.split()
    section = MediaSection(kind, port=int(port.partition("/")[0]), protocol=protocol, direction="")
    if len(formats) > MAX_FORMATS:
        raise SdpError(f"more than {MAX_FORMATS} formats in a media section")
    if not section.is_rtp:
        section.formats = formats
        return section, ()
    pts = tuple(dict.fromkeys(map(int, formats)))
    for pt in pts:
        if not 0 <= pt <= 127:
            raise SdpError(f"payload type {pt} is out of range")
    return section, pts


REPEATED = ("rtpmap:", "fmtp:", "rtcp-fb:", "extmap:")
"""Attributes that every section of a kind has, and mostly the same."""


class SectionReader:
    """Takes the a= lines of one section; `finish` comes after the last."""

    def __init__(self, section: MediaSection, pts: tuple[int, ...], known: Known) -> None:
        self._section = section
        self._pts = pts
        self._known = known
        self._repeated: list[str] = []
        self._rtp: dict[str, Callable[[str], None]] = {}
        if section.is_rtp:
            self._rtp = {
                "rid": self._rid,
                "simulcast": self._simulcast,
                "msid": self._msid,
                "ssrc": self._ssrc,
                "ssrc-group": self._ssrc_group,
            }

    def attribute(self, attribute: str) -> bool:
        """`attribute`: the line after `a=`. False: this is nothing that a section has."""
        if self._rtp and attribute.startswith(REPEATED):
            self._repeated.append(attribute)
            return True
        section = self._section
        name, _, value = attribute.partition(":")
        if read := self._rtp.get(name):
            read(value)
        elif name in TEXTS:
            setattr(section, TEXTS[name], value)
        elif name in DIRECTIONS:
            section.direction = name
        elif name == "candidate":
            if len(section.candidates) < MAX_CANDIDATES:
                section.candidates.append(value)
        elif name in FLAGS:
            setattr(section, FLAGS[name], True)
        elif name in NUMBERS:
            setattr(section, NUMBERS[name], int(value))
        else:
            return False
        return True

    def finish(self) -> None:
        """Read what was collected, unless another section had the same."""
        section = self._section
        if not section.is_rtp:
            return
        key = (self._pts, *self._repeated)
        found = self._known.get(key)
        if found is None:
            codecs = [RtpCodec(pt, *STATIC_CODECS.get(pt, ("", 0))) for pt in self._pts]
            found = self._known[key] = _read_repeated(codecs, self._repeated)
        section.codecs, section.extensions = found

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
        text, _, attribute = value.partition(" ")
        key, _, content = attribute.partition(":")
        ssrc, ssrcs = _number(text), self._section.ssrcs
        if ssrc not in ssrcs and len(ssrcs) >= MAX_SSRCS:
            raise SdpError(f"more than {MAX_SSRCS} sources in a media section")
        attributes = ssrcs.setdefault(ssrc, {})
        attributes[key] = content
        if len(attributes) > MAX_SSRC_ATTRIBUTES:
            raise SdpError(f"more than {MAX_SSRC_ATTRIBUTES} attributes of one source")

    def _ssrc_group(self, value: str) -> None:
        if len(self._section.ssrc_groups) >= MAX_SSRCS:
            raise SdpError(f"more than {MAX_SSRCS} source groups in a media section")
        semantics, *ssrcs = value.split(None, MAX_SSRCS)
        self._section.ssrc_groups.append((semantics, tuple(map(_number, ssrcs))))


def _read_repeated(codecs: list[RtpCodec], attributes: list[str]) -> tuple[list[RtpCodec], dict[int, str]]:
    """Codecs with their a=rtpmap, a=fmtp and a=rtcp-fb lines, and the header extensions."""
    by_pt = {codec.pt: codec for codec in codecs}
    extensions: dict[int, str] = {}
    for attribute in attributes:
        name, _, value = attribute.partition(":")
        try:
            if name == "extmap":
                number, uri, *_ = value.split()
                identifier = int(number.partition("/")[0])
                if not 1 <= identifier <= 255:
                    raise SdpError(f"header extension id {identifier} is out of range")
                extensions[identifier] = uri
                continue
            pt, _, parameters = value.partition(" ")
            if name == "rtcp-fb":
                for codec in codecs if pt == "*" else [by_pt.get(int(pt))]:
                    _add_feedback(codec, parameters.strip())
            elif (codec := by_pt.get(int(pt))) is None:
                continue
            elif name == "fmtp":
                codec.fmtp = parameters.strip()
            else:
                codec.name, rate, *channels = parameters.strip().split("/")
                codec.clock_rate = int(rate)
                if not 1 <= codec.clock_rate < 1 << 32:
                    raise SdpError(f"clock rate {rate[:20]} is out of range")
                codec.channels = int(channels[0]) if channels else 1
        except SdpError:
            raise
        except (ValueError, IndexError) as error:
            raise SdpError(f"cannot read {'a=' + attribute[:78]!r}") from error
    return codecs, extensions


def _add_feedback(codec: RtpCodec | None, feedback: str) -> None:
    if codec is None:
        return
    if len(codec.feedback) >= MAX_FEEDBACK:
        raise SdpError(f"more than {MAX_FEEDBACK} feedback lines for one format")
    codec.feedback.append(feedback)


def _number(text: str) -> int:
    ssrc = int(text)
    if not 0 <= ssrc < 1 << 32:
        raise SdpError(f"SSRC {ssrc} is out of range")
    return ssrc
