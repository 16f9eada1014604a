"""What the native core is told about a negotiated peer connection.

Plain values: `greenroom.server.sdp` makes them, `greenroom._native.MediaServer` reads their attributes. Nothing here
knows SDP text or packets.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Codec:
    """One payload type of a section.

    `name` is lower case without the kind: opus, red, pcmu, pcma, vp8, vp9, h264, av1, h265. `rtx_pt` 0: none.
    """

    pt: int
    name: str
    clock_rate: int
    channels: int = 1
    rtx_pt: int = 0
    fmtp: str = ""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A media section on which the peer sends to us: one published track."""

    track: int
    """Process-wide id of the published track."""
    mid: str
    kind: str
    """"audio" or "video"."""
    codecs: tuple[Codec, ...]
    extensions: dict[str, int] = field(default_factory=dict)
    """Header extension URI to id, as negotiated."""
    layers: tuple[tuple[str, int], ...] = ()
    """Simulcast: (rid, spatial layer 0..2). Empty without simulcast."""
    ssrcs: tuple[tuple[int, int], ...] = ()
    """(ssrc, rtx ssrc or 0) named in the SDP, in order. Empty when only rid/mid tell them."""
    nack: bool = True
    transport_cc: bool = True


@dataclass(frozen=True, slots=True)
class Sender:
    """A media section on which we send to the peer: one subscribed track."""

    mid: str
    track: int
    """The published track to forward."""
    kind: str
    ssrc: int
    rtx_ssrc: int
    """0: retransmit plainly."""
    codecs: tuple[Codec, ...]
    """What the peer can take here, with its payload types. The packet's codec picks by name (and H264 by fmtp)."""
    extensions: dict[str, int] = field(default_factory=dict)
    paused: bool = False
    max_layer: int = 2
    """Highest spatial layer wanted."""
    max_temporal: int = 3
    stream: str = ""
    """CNAME: the publisher's participant sid, for lip sync."""
