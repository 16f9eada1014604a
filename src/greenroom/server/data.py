"""Data packets: from one participant's channel to the others', with the sender's name made true."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from livekit.protocol import models

from .data_tracks import DataTracks

if TYPE_CHECKING:
    from .participant import Participant
    from .room import Room

__all__ = ["LOSSY", "RELIABLE", "DataRouter", "RpcError"]

logger = logging.getLogger(__name__)

RELIABLE = "_reliable"
LOSSY = "_lossy"
DATA_TRACK = "_data_track"

CACHE_SECONDS = 2.0
CACHE_BYTES = 100_000
"""What is kept of each sender's reliable packets for those who resume: the longer of the two bounds ends first."""
NONCES = 1024

# What an agent may send in somebody else's name: captions and chat of the participant it listens to.
IN_ANOTHERS_NAME = frozenset({"transcription", "chat_message", "stream_header", "stream_chunk", "stream_trailer"})

Kind = models.DataPacket.Kind


class RpcError(Exception):
    """An RPC failed. Codes as in the SDKs: 1400 unsupported method, 1501 connection timeout, 1502 response timeout, ..."""

    CONNECTION_TIMEOUT = 1501
    RESPONSE_TIMEOUT = 1502
    RECIPIENT_DISCONNECTED = 1503

    def __init__(self, code: int, message: str, data: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


class SentPackets:
    """The newest reliable packets of one sender."""

    def __init__(self) -> None:
        self.last_sequence = 0
        self._packets: deque[tuple[float, int, tuple[str, ...], bytes]] = deque()
        self._bytes = 0

    def add(self, sequence: int, destinations: tuple[str, ...], payload: bytes) -> None:
        self.last_sequence = max(self.last_sequence, sequence)
        now = time.monotonic()
        self._packets.append((now, sequence, destinations, payload))
        self._bytes += len(payload)
        while self._packets and (self._bytes > CACHE_BYTES or now - self._packets[0][0] > CACHE_SECONDS):
            self._bytes -= len(self._packets.popleft()[3])

    def after(self, sequence: int, identity: str) -> list[bytes]:
        return [
            payload
            for _, number, destinations, payload in self._packets
            if number > sequence and (not destinations or identity in destinations)
        ]


class DataRouter:
    """All data of one room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.tracks = DataTracks(room)
        self.dropped: Counter[str] = Counter()
        """Packets that were not forwarded, by reason."""
        self._sent: dict[str, SentPackets] = {}
        """By the sender's sid."""
        self._flooders: set[str] = set()
        """sids of those whose messages were dropped unread, which is said once."""
        self._nonces: deque[bytes] = deque(maxlen=NONCES)
        self._calls: dict[str, tuple[str, asyncio.Future[str]]] = {}
        """RPC request id to (the sid of who answers, its answer)."""

    def drops(self) -> Counter[str]:
        """Packets of channels and data tracks that were not forwarded, by reason."""
        return self.dropped + self.tracks.dropped

    def unread(self, sender: Participant, count: int) -> None:
        """The core dropped messages of this sender: it sent more than was taken in time."""
        self.dropped["unread"] += count
        self._room.manager.limited["data"] += count
        if sender.sid not in self._flooders:
            self._flooders.add(sender.sid)
            logger.warning(
                "%s in %s sends more messages than can be handled: %d were dropped, further ones are only counted",
                *(sender.identity, self._room.name, count),
            )

    def receive(self, sender: Participant, label: str, payload: bytes) -> None:
        """One message from a participant's data channel. What may not pass is dropped and counted."""
        if label == DATA_TRACK:
            self.tracks.receive(sender, payload)
            return
        if label not in (RELIABLE, LOSSY):
            self._wrap(sender, label, payload)
            return
        try:
            packet = models.DataPacket.FromString(payload)
        except DecodeError:
            self.dropped["malformed"] += 1
            return
        self._route(sender, packet, label)

    def _wrap(self, sender: Participant, label: str, payload: bytes) -> None:
        """A channel of the application's own: its messages travel as user packets with the label as topic."""
        packet = models.DataPacket(user=models.UserPacket(payload=payload, topic=label))
        self._route(sender, packet, RELIABLE)

    def _route(self, sender: Participant, packet: models.DataPacket, label: str) -> None:
        content = packet.WhichOneof("value")
        if not sender.permission.can_publish_data:
            self.dropped["not_allowed"] += 1
            return
        is_agent = sender.kind == models.ParticipantInfo.Kind.AGENT
        if content is None or content == "speaker" or (content == "transcription" and not is_agent):
            self.dropped["not_allowed"] += 1
            return
        if content == "rpc_ack" and packet.rpc_ack.request_id in self._calls:
            return
        if content == "rpc_response" and packet.rpc_response.request_id in self._calls:
            self._answered(sender, packet.rpc_response)
            return
        packet.kind = Kind.RELIABLE if label == RELIABLE else Kind.LOSSY
        packet.participant_sid = sender.sid
        if not (is_agent and packet.participant_identity and content in IN_ANOTHERS_NAME):
            packet.participant_identity = sender.identity
        destinations = tuple(packet.destination_identities)
        if content == "user":
            packet.user.participant_sid = sender.sid
            packet.user.participant_identity = sender.identity
            destinations += tuple(packet.user.destination_identities)
            destinations += self._identities_of(packet.user.destination_sids)
            if packet.user.destination_sids and not destinations:
                return
        sent = None
        if label == RELIABLE and packet.sequence:
            sent = self._sent.setdefault(sender.sid, SentPackets())
            if packet.sequence <= sent.last_sequence:
                # A resumed sender repeats what it is not sure of.
                self.dropped["repeated"] += 1
                return
        encoded = packet.SerializeToString()
        if sent is not None:
            sent.add(packet.sequence, destinations, encoded)
        receivers = [
            participant
            for participant in self._receivers(destinations)
            if participant is not sender and (content != "metrics" or participant.permission.can_subscribe_metrics)
        ]
        self._deliver(receivers, label, encoded, sender)

    def _identities_of(self, sids: Iterable[str]) -> tuple[str, ...]:
        wanted = set(sids)
        return tuple(p.identity for p in self._room.participants.values() if p.sid in wanted)

    def _receivers(self, destinations: tuple[str, ...]) -> list[Participant]:
        participants = self._room.participants
        if not destinations:
            return list(participants.values())
        return [participants[identity] for identity in dict.fromkeys(destinations) if identity in participants]

    def _deliver(
        self, receivers: Iterable[Participant], label: str, payload: bytes, sender: Participant | None = None
    ) -> None:
        peers = [participant.primary.number for participant in receivers]
        if peers:
            self._room.media.send_data(peers, label, payload)
            if sender:
                sender.data_budget.spend_deliveries(len(peers))

    # --- the server's own ----------------------------------------------------------------------------------------

    def send(
        self,
        payload: bytes,
        kind: Kind,
        topic: str,
        identities: tuple[str, ...],
        sids: tuple[str, ...],
        nonce: bytes,
    ) -> None:
        """See `Room.send_data`."""
        if nonce:
            if nonce in self._nonces:
                return
            self._nonces.append(nonce)
        destinations = identities + self._identities_of(sids)
        if sids and not destinations:
            return
        user = models.UserPacket(payload=payload, destination_identities=identities, destination_sids=sids, nonce=nonce)
        if topic:
            user.topic = topic
        packet = models.DataPacket(kind=kind, user=user, destination_identities=destinations)
        label = RELIABLE if kind == Kind.RELIABLE else LOSSY
        self._deliver(self._receivers(destinations), label, packet.SerializeToString())

    async def perform_rpc(self, identity: str, method: str, payload: str, timeout: float) -> str:
        """See `Room.perform_rpc`. `timeout`: seconds."""
        participant = self._room.participants.get(identity)
        if participant is None:
            raise LookupError(f"no participant {identity}")
        request_id = str(uuid.uuid4())
        packet = models.DataPacket(
            kind=Kind.RELIABLE,
            participant_identity=f"server-{request_id}",
            destination_identities=[identity],
            rpc_request=models.RpcRequest(
                id=request_id, method=method, payload=payload, response_timeout_ms=int(timeout * 1000), version=1
            ),
        )
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._calls[request_id] = (participant.sid, answer)
        try:
            self._deliver([participant], RELIABLE, packet.SerializeToString())
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError as error:
            raise RpcError(RpcError.RESPONSE_TIMEOUT, "response timeout") from error
        finally:
            del self._calls[request_id]

    def _answered(self, sender: Participant, response: models.RpcResponse) -> None:
        sid, answer = self._calls[response.request_id]
        if sid != sender.sid or answer.done():
            return
        if response.HasField("error"):
            error = response.error
            answer.set_exception(RpcError(error.code, error.message, error.data))
        else:
            answer.set_result(response.payload)

    # --- resume --------------------------------------------------------------------------------------------------

    def last_sequence(self, sender: Participant) -> int:
        """`ReconnectResponse.last_message_seq`: the newest reliable packet that arrived."""
        sent = self._sent.get(sender.sid)
        return sent.last_sequence if sent else 0

    def resend(self, receiver: Participant, last_sequences: Mapping[str, int]) -> None:
        """After a resume: what each sender (by sid) sent since the receiver's last packet."""
        for sid, sequence in last_sequences.items():
            if sent := self._sent.get(sid):
                for payload in sent.after(sequence, receiver.identity):
                    self._deliver([receiver], RELIABLE, payload)

    def forget(self, participant: Participant) -> None:
        self._sent.pop(participant.sid, None)
        self._flooders.discard(participant.sid)
        self.tracks.forget(participant)
        for sid, answer in self._calls.values():
            if sid == participant.sid and not answer.done():
                answer.set_exception(RpcError(RpcError.RECIPIENT_DISCONNECTED, "recipient disconnected"))

    def close(self) -> None:
        self._room.manager.data_dropped.update(self.drops())
        self._sent.clear()
