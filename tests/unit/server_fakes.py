"""Stand-ins for tests of the signalling side: no packet moves, commands are recorded, events are made by the test."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from greenroom.server.media import Receiver, Sender

__all__ = ["FakeMediaServer"]


class FakeMediaServer:
    """A fake of `greenroom._native.MediaServer`."""

    fingerprint = "sha-256 " + ":".join(["AB"] * 32)

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe()
        self._events: list[tuple[Any, ...]] = []
        self.peers: dict[int, tuple[int, str, str]] = {}
        self.remotes: dict[int, tuple[str, str, str]] = {}
        self.receivers: dict[int, list[Receiver]] = {}
        self.senders: dict[int, list[Sender]] = {}
        self.data: dict[int, tuple[int, tuple]] = {}
        self.muted: dict[int, bool] = {}
        self.restarts: list[int] = []
        self.dtls_started: list[int] = []
        self.sent: list[tuple[list[int], str, bytes]] = []
        self.stats: dict[int, dict[str, Any]] = {}
        self.rooms: dict[int, int | None] = {}

    @property
    def event_fd(self) -> int:
        return self._read_fd

    def port(self, room: int) -> int:
        return 7882

    def shard_of(self, room: int) -> int:
        return room % 2

    def event(self, *event: Any) -> None:
        """Let the core say something."""
        self._events.append(event)
        os.write(self._write_fd, b"x")

    def add_events(self, events: Sequence[tuple[Any, ...]]) -> None:
        """Let it say many things at once."""
        self._events.extend(events)
        os.write(self._write_fd, b"x")

    def poll_events(self) -> list[tuple[Any, ...]]:
        os.read(self._read_fd, 4096)
        events, self._events = self._events, []
        return events

    def add_peer(self, peer: int, room: int, ufrag: str, pwd: str) -> None:
        assert peer not in self.peers, "peer numbers are never used again"
        self.peers[peer] = (room, ufrag, pwd)

    def set_remote(self, peer: int, ufrag: str, pwd: str, fingerprint: str) -> None:
        self.remotes[peer] = (ufrag, pwd, fingerprint)

    def start_dtls(self, peer: int) -> None:
        self.dtls_started.append(peer)

    def restart_ice(self, peer: int, ufrag: str, pwd: str) -> None:
        self.restarts.append(peer)

    def set_receivers(self, peer: int, receivers: Sequence[Receiver]) -> None:
        self.receivers[peer] = list(receivers)

    def set_senders(self, peer: int, senders: Sequence[Sender]) -> None:
        self.senders[peer] = list(senders)

    def set_data(self, peer: int, max_message_size: int, channels: Sequence[tuple] = ()) -> None:
        self.data[peer] = (max_message_size, tuple(channels))

    def set_room(self, room: int, *, top_speakers: int | None = None) -> None:
        self.rooms[room] = top_speakers

    def set_muted(self, track: int, muted: bool) -> None:
        self.muted[track] = muted

    def send_data(self, peers: Sequence[int], label: str, payload: bytes) -> None:
        self.sent.append((list(peers), label, payload))

    def remove_peer(self, peer: int) -> None:
        self.peers.pop(peer, None)
        self.receivers.pop(peer, None)
        self.senders.pop(peer, None)

    def request_keyframe(self, track: int) -> None:
        """Nothing to ask."""

    def metrics(self) -> dict[str, int]:
        return {}

    def peer_stats(self, peer: int) -> dict[str, Any] | None:
        return self.stats.get(peer)

    def close(self) -> None:
        if self._read_fd >= 0:
            os.close(self._read_fd)
            os.close(self._write_fd)
            self._read_fd = self._write_fd = -1
