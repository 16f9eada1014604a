"""Rooms whose data packets go to each other in memory: the SDK's own classes, with a fake session in place of the network."""

from __future__ import annotations

from livekit.protocol import models

from greenroom.rtc.local_participant import LocalParticipant, LocalParticipantCore
from greenroom.rtc.room import Room
from greenroom.rtc.transport import LOSSY, RELIABLE

DEFLATE = models.ClientInfo.Capability.CAP_COMPRESSION_DEFLATE_RAW


class FakeSession:
    """Delivers packets to the other rooms the way a server does: to the destinations, under the sender's name."""

    def __init__(self, link: Link, room: Room) -> None:
        self.link = link
        self.room = room
        self.closed = False
        self.sent: list[models.DataPacket] = []

    async def send_packet(self, packet: models.DataPacket, *, reliable: bool) -> None:
        sender = self.room.local_participant.identity
        copy = models.DataPacket.FromString(packet.SerializeToString())
        self.sent.append(copy)
        copy.participant_identity = copy.participant_identity or sender
        for room in self.link.rooms.values():
            identity = room.local_participant.identity
            if identity != sender and (not copy.destination_identities or identity in copy.destination_identities):
                room._core.on_packet(copy, RELIABLE if reliable else LOSSY)

    def kinds(self) -> list[str | None]:
        return [packet.WhichOneof("value") for packet in self.sent]


class Link:
    """`Link(alice=2, bob=0)`: participants with their client protocols; from 2 on they inflate too."""

    def __init__(self, **protocols: int) -> None:
        self.rooms: dict[str, Room] = {}
        self.sessions: dict[str, FakeSession] = {}
        infos = {
            identity: models.ParticipantInfo(
                sid=f"PA_{identity}",
                identity=identity,
                state=models.ParticipantInfo.State.ACTIVE,
                client_protocol=protocol,
                capabilities=[DEFLATE] if protocol >= 2 else [],
            )
            for identity, protocol in protocols.items()
        }
        for identity, info in infos.items():
            room = self.rooms[identity] = Room()
            room._core.local = LocalParticipantCore(info, room._core)
            self.sessions[identity] = FakeSession(self, room)
            for other, other_info in infos.items():
                if other != identity:
                    room._core.state._apply_remote(other_info)
            room._core.session = self.sessions[identity]  # type: ignore[assignment]

    def __getitem__(self, identity: str) -> LocalParticipant:
        return self.rooms[identity].local_participant

    def leave(self, identity: str) -> None:
        del self.rooms[identity]
        gone = models.ParticipantInfo(
            sid=f"PA_{identity}", identity=identity, state=models.ParticipantInfo.State.DISCONNECTED
        )
        for room in self.rooms.values():
            room._core.state._apply_remote(gone)
