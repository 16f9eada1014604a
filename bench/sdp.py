"""SDP of the load generator: read what a server says, write what a small client would."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Codec", "Description", "Local", "Reception", "Remote", "Section", "answer", "offer", "reception", "remote"]

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"

OPUS = 111
VP8 = 96


@dataclass
class Section:
    """One m-section. `attributes` in order, names without `a=`; a flag has an empty value."""

    kind: str
    port: int
    protocol: str
    formats: list[str]
    attributes: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    @property
    def mid(self) -> str:
        return self.get("mid") or ""

    @property
    def sends(self) -> bool:
        """The writer of this section may send on it."""
        flags = {key for key, value in self.attributes if not value}
        return self.port != 0 and not flags & {"recvonly", "inactive"}


@dataclass
class Description:
    attributes: list[tuple[str, str]]
    sections: list[Section]

    @classmethod
    def parse(cls, text: str) -> Description:
        """Read an SDP. Lines that mean nothing here are left out. ValueError for a malformed m-line."""
        description = cls([], [])
        for line in text.splitlines():
            key, _, value = line.partition("=")
            if key == "m":
                kind, port, protocol, *formats = value.split()
                description.sections.append(Section(kind, int(port), protocol, formats))
            elif key == "a":
                name, _, content = value.partition(":")
                target = description.sections[-1] if description.sections else description
                target.attributes.append((name, content))
        return description

    def find(self, name: str) -> str | None:
        """The first value of an attribute, of the session or of any section."""
        for part in (self, *self.sections):
            for key, value in part.attributes:
                if key == name:
                    return value
        return None

    def candidates(self) -> list[str]:
        return [value for section in self.sections for value in section.all("candidate")]


@dataclass(frozen=True)
class Local:
    """This side's transport."""

    ufrag: str
    pwd: str
    fingerprint: str


@dataclass(frozen=True)
class Remote:
    """The other side's transport, without its address."""

    ufrag: str
    pwd: str
    fingerprint: str
    lite: bool
    setup: str


def remote(description: Description) -> Remote:
    """ValueError when something is missing that ICE or DTLS need."""
    values = {name: description.find(name) for name in ("ice-ufrag", "ice-pwd", "fingerprint", "setup")}
    if missing := [name for name, value in values.items() if value is None]:
        raise ValueError(f"the server's SDP has no {', '.join(missing)}")
    return Remote(
        ufrag=values["ice-ufrag"] or "",
        pwd=values["ice-pwd"] or "",
        fingerprint=values["fingerprint"] or "",
        lite=description.find("ice-lite") is not None,
        setup=values["setup"] or "",
    )


def host_address(candidate: str) -> str | None:
    """IP:PORT of a UDP host candidate of IPv4, else None. With or without the `candidate:` prefix."""
    parts = candidate.removeprefix("candidate:").split()
    if len(parts) < 8 or parts[1] != "1" or parts[2].lower() != "udp" or parts[7] != "host" or ":" in parts[4]:
        return None
    return f"{parts[4]}:{parts[5]}"


@dataclass(frozen=True)
class Codec:
    """A payload type of a section. `apt` for retransmissions: the payload type they repair."""

    payload_type: int
    name: str
    clock: int
    apt: int | None
    feedback: tuple[str, ...]


def codecs(section: Section) -> list[Codec]:
    """In the order of the m-line."""
    names = dict(value.split(None, 1) for value in section.all("rtpmap") if " " in value)
    parameters = dict(value.split(None, 1) for value in section.all("fmtp") if " " in value)
    feedback: dict[str, list[str]] = {}
    for value in section.all("rtcp-fb"):
        number, _, kind = value.partition(" ")
        feedback.setdefault(number, []).append(kind)
    found = []
    for number in section.formats:
        if number not in names:
            continue
        name, _, rest = names[number].partition("/")
        values = dict(item.strip().partition("=")[::2] for item in parameters.get(number, "").split(";"))
        apt = int(values["apt"]) if values.get("apt", "").isdigit() else None
        clock = int(rest.partition("/")[0] or 0)
        found.append(Codec(int(number), name.lower(), clock, apt, tuple(feedback.get(number, ()))))
    return found


@dataclass
class Reception:
    """What `LoadEngine.set_reception` takes."""

    codecs: list[tuple[int, int, int | None, bool]] = field(default_factory=list)
    repairs: list[tuple[int, int]] = field(default_factory=list)
    twcc_id: int | None = None
    remb: bool = False


def _wanted(section: Section) -> list[Codec]:
    """Opus or VP8 with its retransmissions: what the load generator publishes."""
    every = codecs(section)
    main = [codec for codec in every if codec.name == ("opus" if section.kind == "audio" else "vp8")]
    numbers = {codec.payload_type for codec in main}
    return main + [codec for codec in every if codec.name == "rtx" and codec.apt in numbers]


def reception(description: Description) -> Reception:
    """How to understand what the writer of `description` will send."""
    result = Reception()
    seen = set()
    for section in description.sections:
        if section.kind not in ("audio", "video"):
            continue
        for codec in _wanted(section):
            if codec.payload_type not in seen:
                seen.add(codec.payload_type)
                nack = "nack" in codec.feedback
                result.codecs.append((codec.payload_type, codec.clock, codec.apt, nack))
            result.remb |= "goog-remb" in codec.feedback
        for value in section.all("extmap"):
            number, _, uri = value.partition(" ")
            if uri == TRANSPORT_CC:
                result.twcc_id = int(number.partition("/")[0])
        for value in section.all("ssrc-group"):
            kind, *ssrcs = value.split()
            if kind == "FID" and len(ssrcs) == 2:
                result.repairs.append((int(ssrcs[1]), int(ssrcs[0])))
    return result


def _session(version: int, mids: list[str]) -> list[str]:
    lines = ["v=0", f"o=- 4611731400430051336 {version} IN IP4 127.0.0.1", "s=-", "t=0 0"]
    return [*lines, f"a=group:BUNDLE {' '.join(mids)}", "a=extmap-allow-mixed", "a=msid-semantic: WMS"]


def _transport(local: Local, setup: str, mid: str) -> list[str]:
    return [
        "c=IN IP4 0.0.0.0",
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.pwd}",
        "a=ice-options:trickle",
        f"a=fingerprint:{local.fingerprint}",
        f"a=setup:{setup}",
        f"a=mid:{mid}",
    ]


def _text(lines: list[str]) -> str:
    return "\r\n".join(lines) + "\r\n"


def _application(local: Local, setup: str, mid: str, port: str = "9") -> list[str]:
    lines = [f"m=application {port} UDP/DTLS/SCTP webrtc-datachannel", *_transport(local, setup, mid)]
    return [*lines, "a=sctp-port:5000", "a=max-message-size:262144"]


def answer(offer: Description, local: Local, version: int) -> str:
    """Accept everything that the offerer sends, Opus and VP8 only. We are the DTLS client."""
    alive = [section.mid for section in offer.sections if section.port != 0 or section.kind == "application"]
    lines = _session(version, alive)
    for section in offer.sections:
        if section.kind == "application":
            lines += _application(local, "active", section.mid)
            continue
        chosen = _wanted(section)
        port = "9" if chosen and section.port != 0 else "0"
        formats = [str(codec.payload_type) for codec in chosen] or section.formats[:1]
        lines += [f"m={section.kind} {port} {section.protocol} {' '.join(formats)}"]
        lines += _transport(local, "active", section.mid)
        lines += [f"a=extmap:{value}" for value in section.all("extmap")]
        lines += ["a=recvonly" if section.sends and chosen else "a=inactive", "a=rtcp-mux", "a=rtcp-rsize"]
        lines += _codec_lines(section, {codec.payload_type for codec in chosen})
    return _text(lines)


def _codec_lines(section: Section, numbers: set[int]) -> list[str]:
    """The offer's own lines about these payload types."""
    kept = []
    for name, value in section.attributes:
        number = value.partition(" ")[0]
        if name in ("rtpmap", "fmtp", "rtcp-fb") and number.isdigit() and int(number) in numbers:
            kept.append(f"a={name}:{value}")
    return kept


EXTENSIONS = {"audio": {1: AUDIO_LEVEL, 3: TRANSPORT_CC, 4: MID}, "video": {3: TRANSPORT_CC, 4: MID}}
"""What `offer` offers, by id."""

_CODECS = {
    "audio": (
        str(OPUS),
        [
            f"a=rtpmap:{OPUS} opus/48000/2",
            f"a=rtcp-fb:{OPUS} transport-cc",
            f"a=fmtp:{OPUS} minptime=10;useinbandfec=1",
        ],
    ),
    "video": (
        str(VP8),
        [
            f"a=rtpmap:{VP8} VP8/90000",
            *(f"a=rtcp-fb:{VP8} {kind}" for kind in ("goog-remb", "transport-cc", "ccm fir", "nack", "nack pli")),
        ],
    ),
}


def offer(local: Local, tracks: list[tuple[str, str, int]], version: int) -> str:
    """A data channel section (mid 0) and a sendonly section for each track (kind, cid, ssrc), mids from 1."""
    lines = _session(version, [str(number) for number in range(len(tracks) + 1)])
    lines += _application(local, "actpass", "0")
    for number, (kind, cid, ssrc) in enumerate(tracks, 1):
        formats, about = _CODECS[kind]
        lines += [f"m={kind} 9 UDP/TLS/RTP/SAVPF {formats}", *_transport(local, "actpass", str(number))]
        lines += [f"a=extmap:{id} {uri}" for id, uri in EXTENSIONS[kind].items()]
        lines += ["a=sendonly", f"a=msid:- {cid}", "a=rtcp-mux", "a=rtcp-rsize", *about]
        lines += [f"a=ssrc:{ssrc} cname:load", f"a=ssrc:{ssrc} msid:- {cid}"]
    return _text(lines)


def accepted_extensions(section: Section) -> dict[str, int]:
    """URI to id of what an answer accepted."""
    pairs = (value.partition(" ") for value in section.all("extmap"))
    return {uri.split()[0]: int(number.partition("/")[0]) for number, _, uri in pairs if uri}
