"""Sequence numbers of reliable packets: nothing twice and nothing lost across a resume."""

from __future__ import annotations

import math
from collections import OrderedDict, deque

from livekit.protocol import models, rtc as proto

from .errors import ConnectError
from .transport import RELIABLE, Transport

HIGH_WATER = 1024 * 1024
"""Buffered bytes above which a sender waits until the channel has drained."""
DRAIN_TIMEOUT = 30.0
RESEND_BYTES = 1024 * 1024
"""How much of what was sent is kept for a resume."""
MAX_PUBLISHERS = 10_000


class ReliableChannel:
    def __init__(self) -> None:
        self._sequence = 0
        self._sent: deque[tuple[int, bytes]] = deque()
        self._sent_bytes = 0
        self.last_sent = -math.inf
        """When, in the loop's time."""
        self._received: OrderedDict[str, int] = OrderedDict()

    async def send(self, transport: Transport, packet: models.DataPacket) -> None:
        """Number it, send it, wait while too much is buffered. ConnectError when nothing drains within 30 s."""
        while transport.peer.buffered(RELIABLE) > HIGH_WATER:
            if not await transport.wait_drained(RELIABLE, DRAIN_TIMEOUT):
                raise ConnectError(f"the data channel did not drain within {DRAIN_TIMEOUT:g} s")
        self._sequence += 1
        packet.sequence = self._sequence
        data = packet.SerializeToString()
        try:
            transport.peer.send(RELIABLE, data)
        except (RuntimeError, BufferError) as error:
            self._sequence -= 1
            raise ConnectError(f"the data channel does not take the packet: {error}") from error
        self.last_sent = transport.engine.loop.time()
        self._sent.append((self._sequence, data))
        self._sent_bytes += len(data)
        while self._sent_bytes > RESEND_BYTES and len(self._sent) > 1:
            self._sent_bytes -= len(self._sent.popleft()[1])

    def resend(self, transport: Transport, after: int) -> None:
        """After a resume: what the server had not read, `after` being the last it had."""
        while self._sent and self._sent[0][0] <= after:
            self._sent_bytes -= len(self._sent.popleft()[1])
        for _, data in self._sent:
            transport.peer.send(RELIABLE, data)

    def accept(self, packet: models.DataPacket) -> bool:
        """False for a packet that was here before."""
        if not packet.sequence or not packet.participant_sid:
            return True
        if packet.sequence <= self._received.get(packet.participant_sid, 0):
            return False
        self._received[packet.participant_sid] = packet.sequence
        self._received.move_to_end(packet.participant_sid)
        if len(self._received) > MAX_PUBLISHERS:
            self._received.popitem(last=False)
        return True

    def receive_states(self) -> list[proto.DataChannelReceiveState]:
        return [proto.DataChannelReceiveState(publisher_sid=sid, last_seq=seq) for sid, seq in self._received.items()]

    def reset(self) -> None:
        """A new session counts anew."""
        self._sequence = 0
        self._sent.clear()
        self._sent_bytes = 0
        self._received.clear()
