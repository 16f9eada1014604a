"""What of a session description matters above the native core: its sections, their directions and streams. And candidates
that come by themselves."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

MAX_SIZE = 256 << 10
"""Characters. A browser's offer of sound and pictures has 7,000, ours of a hundred sections with pictures 200,000. Reading
this much stops the event loop for about 0.1 s."""
MAX_SECTIONS = 1000
MAX_MID = 16
"""Characters; the native core keeps no more of a mid."""
FINGERPRINT = re.compile(r"^a=fingerprint:sha-256 [0-9a-f]{2}(:[0-9a-f]{2}){31}\s*$", re.IGNORECASE | re.MULTILINE)
MAX_CANDIDATE = 1024
"""Characters; browsers use about 150."""
END_OF_CANDIDATES = ("", "end-of-candidates")
HOST = re.compile(r"(?=.{1,255}$)[0-9a-z_-]+(\.[0-9a-z_-]+)*\.?", re.IGNORECASE)
"""A name, among which those of mDNS."""
DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")


@dataclass(frozen=True, slots=True)
class Section:
    """One `m=` line with what follows. `sends` and `receives` are meant from the side that wrote it."""

    kind: str
    mid: str
    direction: str
    rejected: bool
    """Port 0, and not because it shares another section's transport."""
    stream_ids: tuple[str, ...]
    track_id: str

    @property
    def is_media(self) -> bool:
        return self.kind in ("audio", "video")

    @property
    def sends(self) -> bool:
        return not self.rejected and self.direction in ("sendrecv", "sendonly")

    @property
    def receives(self) -> bool:
        return not self.rejected and self.direction in ("sendrecv", "recvonly")


def sections(sdp: str) -> list[Section]:
    """In their order. What is missing is empty; a section without a direction does both."""
    head, *blocks = _blocks(sdp)
    bundled = {mid for line in head if line.startswith("a=group:BUNDLE") for mid in line.split()[1:]}
    return [_section(block, bundled) for block in blocks]


def check(sdp: str) -> list[Section]:
    """The sections of a description that can be used.

    Raises:
        ValueError: it is none, or one that could not lead to a connection. The sentence says what is missing.
    """
    if not isinstance(sdp, str):
        raise ValueError(f"a session description is a str, not {type(sdp).__name__}")
    if len(sdp) > MAX_SIZE:
        raise ValueError(f"the session description has {len(sdp)} characters; the limit is {MAX_SIZE}")
    if not sdp.startswith("v=0"):
        raise ValueError("this is no session description: it does not begin with v=0")
    found = sections(sdp)
    if not found:
        raise ValueError("the session description has no m= section")
    if len(found) > MAX_SECTIONS:
        raise ValueError(f"the session description has {len(found)} sections; the limit is {MAX_SECTIONS}")
    for line in ("a=ice-ufrag:", "a=ice-pwd:"):
        if f"\n{line}" not in sdp:
            raise ValueError(f"the session description has no {line[2:-1]}")
    if not FINGERPRINT.search(sdp):
        raise ValueError("the session description has no SHA-256 fingerprint")
    mids: set[str] = set()
    for number, section in enumerate(found, 1):
        if not section.mid or len(section.mid) > MAX_MID:
            raise ValueError(f"section {number} needs an a=mid of 1 to {MAX_MID} characters")
        if section.mid in mids:
            raise ValueError(f"two sections have the mid {section.mid!r}")
        mids.add(section.mid)
    return found


def check_candidate(candidate: str) -> bool:
    """False for the end of candidates, which is an empty line or says so.

    Raises:
        ValueError: it is no `candidate:` of RFC 8839. What cannot be used here but elsewhere (TCP, a name) is one.
    """
    if not isinstance(candidate, str):
        raise ValueError(f"a candidate is a str that begins with candidate:, not {type(candidate).__name__}")
    if len(candidate) > MAX_CANDIDATE:
        raise ValueError(f"the candidate has {len(candidate)} characters; the limit is {MAX_CANDIDATE}")
    text = candidate.strip().removeprefix("a=")
    if text in END_OF_CANDIDATES:
        return False

    def wrong(why: str) -> ValueError:
        return ValueError(f"{candidate!r} is no candidate: {why}")

    if not text.startswith("candidate:"):
        raise wrong("it does not begin with candidate:")
    if not text.isprintable():
        raise wrong("it is not one line of text")
    words = text.removeprefix("candidate:").split()
    if len(words) < 8:
        raise wrong("it is not of the form candidate:FOUNDATION COMPONENT TRANSPORT PRIORITY ADDRESS PORT typ TYPE")
    _foundation, component, _transport, priority, address, port, typ, _type = words[:8]
    for what, word, least, most in (
        ("component", component, 1, 256),
        ("priority", priority, 0, (1 << 32) - 1),
        ("port", port, 0, (1 << 16) - 1),
    ):
        if not (word.isascii() and word.isdigit() and len(word) <= 10 and least <= int(word) <= most):
            raise wrong(f"its {what} is {word!r}, not {least} to {most}")
    if not _is_address(address):
        raise wrong(f"{address!r} is neither an IP address nor a name")
    if typ != "typ":
        raise wrong(f"where typ belongs is {typ!r}")
    return True


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        # What looks like an address has to be one.
        return HOST.fullmatch(text) is not None and not text.replace(".", "").isdigit()
    return True


def _blocks(sdp: str) -> list[list[str]]:
    """The lines of the session, then those of each section."""
    blocks: list[list[str]] = [[]]
    for line in sdp.splitlines():
        if line.startswith("m="):
            blocks.append([])
        blocks[-1].append(line.strip())
    return blocks


def _section(lines: list[str], bundled: set[str]) -> Section:
    words = lines[0][2:].split()
    mid, track_id, direction = "", "", "sendrecv"
    stream_ids: list[str] = []
    for line in lines:
        if line.startswith("a=mid:"):
            mid = line[6:].strip()
        elif line.startswith("a=msid:"):
            stream_id, _, track_id = line[7:].strip().rpartition(" ")
            # "-" is the standard's name for no stream; one word alone names the stream.
            stream_id, track_id = (stream_id, track_id) if stream_id else (track_id, "")
            if stream_id not in ("", "-") and stream_id not in stream_ids:
                stream_ids.append(stream_id)
        elif line[2:] in DIRECTIONS and line.startswith("a="):
            direction = line[2:]
    port = words[1].split("/")[0] if len(words) > 1 else "0"
    rejected = port == "0" and mid not in bundled
    return Section(words[0] if words else "", mid, direction, rejected, tuple(stream_ids), track_id)
