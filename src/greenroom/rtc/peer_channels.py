"""The data channels of a connection without a room, by their labels."""

from __future__ import annotations

from collections.abc import Callable

from .data_channel import DataChannel, EarlyMessages
from .log import logger
from .native_peer import NativePeer

MAX_CHANNELS = 1000
"""Open data channels; those that the other side opens beyond that are closed."""
MAX_LABEL = 255
"""Bytes in UTF-8."""


class PeerChannels:
    """`on_channel` is told of those that the other side opened."""

    def __init__(self, peer: NativePeer, on_channel: Callable[[DataChannel], None]) -> None:
        self._peer = peer
        self._on_channel = on_channel
        self._channels: dict[str, DataChannel] = {}
        self._early = EarlyMessages()
        self.unsaid = False
        """There is one for which there must be an offer."""

    def create(self, label: str, ordered: bool, max_retransmits: int | None) -> DataChannel:
        """See `PeerConnection.create_data_channel`."""
        if not label or len(label.encode()) > MAX_LABEL:
            raise ValueError(f"a label has 1 to {MAX_LABEL} bytes, not {len(label.encode())}")
        if label in self._channels:
            raise ValueError(f"there is a data channel {label!r} already")
        if max_retransmits is not None and not 0 <= max_retransmits < 1 << 16:
            raise ValueError(f"max_retransmits is 0 to 65535, not {max_retransmits}")
        self._peer.call(self._peer.peer.add_data_channel, label, ordered, max_retransmits)
        channel = self._channels[label] = DataChannel(self._peer, self._early, label, ordered, max_retransmits)
        return channel

    def changed(self, label: str, is_open: bool) -> None:
        """What the native core says."""
        channel = self._channels.get(label)
        if not is_open:
            if channel is not None:
                del self._channels[label]
                channel.closed()
            return
        if channel is None:
            if len(self._channels) >= MAX_CHANNELS:
                logger.warning("closed data channel %r: there are %d already", label, MAX_CHANNELS)
                self._peer.peer.close_channel(label)
                return
            channel = self._channels[label] = DataChannel(self._peer, self._early, label)
            self._on_channel(channel)
        channel.opened()

    def received(self, label: str, payload: bytes, binary: bool) -> None:
        """What the native core says."""
        channel = self._channels.get(label)
        if channel is not None:
            channel.received(payload, binary)

    def end(self) -> None:
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.closed()
