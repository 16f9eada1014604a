"""Where a received data packet goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livekit.protocol import models

from .enums import DataPacketKind
from .log import logger
from .transcription import TranscriptionSegment
from .transport import RELIABLE

if TYPE_CHECKING:
    from .participant import RemoteParticipant
    from .room_core import RoomCore


def route_packet(room: RoomCore, packet: models.DataPacket, label: str) -> None:
    """Hand it to streams, calls or the event it belongs to. Who sent it is what the server says."""
    from .room import DataPacket, SipDTMF

    local = room.local
    if local is None:
        return

    def remote(identity: str) -> RemoteParticipant | None:
        found = room.remotes.get(identity)
        return found.view if found is not None else None

    kind = packet.WhichOneof("value")
    sender = packet.participant_identity
    match kind:
        case "user":
            identity = sender or packet.user.participant_identity
            room.emit(
                "data_received",
                DataPacket(
                    data=packet.user.payload,
                    kind=DataPacketKind.KIND_RELIABLE if label == RELIABLE else DataPacketKind.KIND_LOSSY,
                    participant=remote(identity),
                    topic=packet.user.topic,
                ),
            )
        case "stream_header":
            room.streams.handle_header(packet.stream_header, sender)
        case "stream_chunk":
            room.streams.handle_chunk(packet.stream_chunk, sender)
        case "stream_trailer":
            room.streams.handle_trailer(packet.stream_trailer, sender)
        case "rpc_request":
            local.rpc.handle_request(packet.rpc_request, sender)
        case "rpc_ack":
            local.rpc.handle_ack(packet.rpc_ack)
        case "rpc_response":
            local.rpc.handle_response(packet.rpc_response)
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
            known = room.participant(message.transcribed_participant_identity or sender)
            speaker = known.view if known is not None else None
            publication = speaker.track_publications.get(message.track_id) if speaker is not None else None
            room.emit("transcription_received", segments, speaker, publication)
        case "sip_dtmf":
            room.emit(
                "sip_dtmf_received",
                SipDTMF(
                    code=packet.sip_dtmf.code,
                    digit=packet.sip_dtmf.digit,
                    participant=remote(sender),
                ),
            )
        case "encrypted_packet":
            logger.warning("dropped an encrypted packet from %r: this room is not encrypted", sender)
        case _:
            logger.debug("ignored a %s packet from %r", kind, sender)
