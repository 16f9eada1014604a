"""Where a received data packet goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livekit.protocol import models

from .enums import DataPacketKind
from .log import logger
from .transcription import TranscriptionSegment
from .transport import RELIABLE

if TYPE_CHECKING:
    from .room import Room


def route_packet(room: Room, packet: models.DataPacket, label: str) -> None:
    """Hand it to streams, calls or the event it belongs to. Who sent it is what the server says."""
    from .room import DataPacket, SipDTMF

    local = room._local_participant
    if local is None:
        return
    kind = packet.WhichOneof("value")
    sender = packet.participant_identity
    match kind:
        case "user":
            identity = sender or packet.user.participant_identity
            room._emit(
                "data_received",
                DataPacket(
                    data=packet.user.payload,
                    kind=DataPacketKind.KIND_RELIABLE if label == RELIABLE else DataPacketKind.KIND_LOSSY,
                    participant=room._remote_participants.get(identity),
                    topic=packet.user.topic,
                ),
            )
        case "stream_header":
            room._streams.handle_header(packet.stream_header, sender)
        case "stream_chunk":
            room._streams.handle_chunk(packet.stream_chunk, sender)
        case "stream_trailer":
            room._streams.handle_trailer(packet.stream_trailer, sender)
        case "rpc_request":
            local._rpc.handle_request(packet.rpc_request, sender)
        case "rpc_ack":
            local._rpc.handle_ack(packet.rpc_ack)
        case "rpc_response":
            local._rpc.handle_response(packet.rpc_response)
        case "transcription":
            message = packet.transcription
            segments = [
                TranscriptionSegment(
                    id=s.id,
                    text=s.text,
                    start_time=s.start_time,
                    end_time=s.end_time,
                    language=s.language,
                    final=s.final,
                )
                for s in message.segments
            ]
            speaker = room._participant(message.transcribed_participant_identity or sender)
            publication = speaker.track_publications.get(message.track_id) if speaker is not None else None
            room._emit("transcription_received", segments, speaker, publication)
        case "sip_dtmf":
            room._emit(
                "sip_dtmf_received",
                SipDTMF(
                    code=packet.sip_dtmf.code,
                    digit=packet.sip_dtmf.digit,
                    participant=room._remote_participants.get(sender),
                ),
            )
        case "encrypted_packet":
            logger.warning("dropped an encrypted packet from %r: this room is not encrypted", sender)
        case _:
            logger.debug("ignored a %s packet from %r", kind, sender)
