"""Statistics in the shape of the W3C's identifiers, as far as the native core knows them."""

from __future__ import annotations

import time
from typing import Any

from .enums import TrackKind
from .messages import Record


class RtcStatsData(Record):
    """`timestamp`: milliseconds since the epoch."""

    __slots__ = ()
    FIELDS = {"id": "", "timestamp": 0}  # noqa: RUF012


class RtpStreamStats(Record):
    __slots__ = ()
    FIELDS = {"ssrc": 0, "kind": "", "transport_id": "", "codec_id": ""}  # noqa: RUF012


class ReceivedRtpStreamStats(Record):
    """`jitter` in seconds."""

    __slots__ = ()
    FIELDS = {"packets_received": 0, "packets_lost": 0, "jitter": 0.0}  # noqa: RUF012


class InboundRtpStreamStats(Record):
    """`frames_decoded`: pictures, or packets of sound, that went to a decoder; 0 while nobody wants them decoded."""

    __slots__ = ()
    FIELDS = {  # noqa: RUF012
        "mid": "",
        "bytes_received": 0,
        "nack_count": 0,
        "pli_count": 0,
        "concealed_samples": 0,
        "frames_decoded": 0,
    }


class SentRtpStreamStats(Record):
    __slots__ = ()
    FIELDS = {"packets_sent": 0, "bytes_sent": 0}  # noqa: RUF012


class OutboundRtpStreamStats(Record):
    __slots__ = ()
    FIELDS = {"mid": "", "nack_count": 0, "pli_count": 0}  # noqa: RUF012


class InboundRtp(Record):
    __slots__ = ()
    FIELDS = {  # noqa: RUF012
        "rtc": RtcStatsData,
        "stream": RtpStreamStats,
        "received": ReceivedRtpStreamStats,
        "inbound": InboundRtpStreamStats,
    }


class OutboundRtp(Record):
    __slots__ = ()
    FIELDS = {  # noqa: RUF012
        "rtc": RtcStatsData,
        "stream": RtpStreamStats,
        "sent": SentRtpStreamStats,
        "outbound": OutboundRtpStreamStats,
    }


class CodecStats(Record):
    __slots__ = ()
    FIELDS = {"mime_type": "", "clock_rate": 0}  # noqa: RUF012


class Codec(Record):
    __slots__ = ()
    FIELDS = {"rtc": RtcStatsData, "codec": CodecStats}  # noqa: RUF012


class CandidatePairStats(Record):
    """`current_round_trip_time` in seconds."""

    __slots__ = ()
    FIELDS = {  # noqa: RUF012
        "nominated": True,
        "bytes_sent": 0,
        "bytes_received": 0,
        "current_round_trip_time": 0.0,
    }


class CandidatePair(Record):
    __slots__ = ()
    FIELDS = {"rtc": RtcStatsData, "candidate_pair": CandidatePairStats}  # noqa: RUF012


class RtcStats(Record):
    """One entry; exactly one of its fields is set, and `WhichOneof("stats")` says which."""

    __slots__ = ()
    FIELDS = {  # noqa: RUF012
        "codec": Codec,
        "inbound_rtp": InboundRtp,
        "outbound_rtp": OutboundRtp,
        "candidate_pair": CandidatePair,
    }

    def WhichOneof(self, group: str) -> str | None:
        if group != "stats":
            raise ValueError(f"RtcStats has no group {group!r}")
        return next((name for name in self.FIELDS if self.HasField(name)), None)


def _section_stats(mid: str, section: dict[str, Any], kind: str, outbound: bool) -> list[RtcStats]:
    now = int(time.time() * 1000)
    codec = str(section.get("codec") or "").lower()
    codec_id = f"codec-{mid}"
    head = RtcStatsData(id=f"{'outbound' if outbound else 'inbound'}-{mid}", timestamp=now)
    stream = RtpStreamStats(ssrc=section.get("ssrc") or 0, kind=kind, transport_id="transport", codec_id=codec_id)
    packets, size = section.get("packets", 0), section.get("bytes", 0)
    nacks, plis = section.get("nacks", 0), section.get("plis", 0)
    if outbound:
        media = RtcStats(
            outbound_rtp=OutboundRtp(
                rtc=head,
                stream=stream,
                sent=SentRtpStreamStats(packets_sent=packets, bytes_sent=size),
                outbound=OutboundRtpStreamStats(mid=mid, nack_count=nacks, pli_count=plis),
            )
        )
    else:
        media = RtcStats(
            inbound_rtp=InboundRtp(
                rtc=head,
                stream=stream,
                received=ReceivedRtpStreamStats(
                    packets_received=packets,
                    packets_lost=section.get("lost", 0),
                    jitter=section.get("jitter_ms", 0) / 1000,
                ),
                inbound=InboundRtpStreamStats(
                    mid=mid,
                    bytes_received=size,
                    nack_count=nacks,
                    pli_count=plis,
                    concealed_samples=int(section.get("concealed_ms", 0) * 48),
                    frames_decoded=section.get("decoded", 0),
                ),
            )
        )
    entries = [media]
    if codec:
        rate = 48000 if kind == "audio" else 90000
        head = RtcStatsData(id=codec_id, timestamp=now)
        entries.append(RtcStats(codec=Codec(rtc=head, codec=CodecStats(mime_type=f"{kind}/{codec}", clock_rate=rate))))
    return entries


def track_stats(peer: dict[str, Any], mid: str, kind: TrackKind, *, outbound: bool) -> list[RtcStats]:
    """The entries of one section out of `Peer.stats()`."""
    section = peer.get(mid)
    if not isinstance(section, dict):
        return []
    if not outbound:
        section = section.get("received", section)
    return _section_stats(mid, section, "audio" if kind == TrackKind.KIND_AUDIO else "video", outbound)


def peer_stats(peer: dict[str, Any], sections: dict[str, tuple[str, bool]]) -> list[RtcStats]:
    """Everything `Peer.stats()` says. `sections`: mid to (kind, outbound)."""
    head = RtcStatsData(id="candidate-pair", timestamp=int(time.time() * 1000))
    pair = CandidatePairStats(
        nominated=True,
        bytes_sent=peer.get("bytes_out", 0),
        bytes_received=peer.get("bytes_in", 0),
        current_round_trip_time=(peer.get("rtt_ms") or 0) / 1000,
    )
    entries = [RtcStats(candidate_pair=CandidatePair(rtc=head, candidate_pair=pair))]
    for mid, section in peer.items():
        if isinstance(section, dict):
            kind, outbound = sections.get(mid, ("audio", False))
            entries += _section_stats(mid, section, kind, outbound)
            if "received" in section:
                entries += _section_stats(mid, section["received"], kind, False)
    return entries
