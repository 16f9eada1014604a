"""A UDP relay on loopback that loses and delays datagrams, from one seed."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from greenroom.rtc.transport import Transport

__all__ = ["LossyLink", "through"]


class _Endpoint(asyncio.DatagramProtocol):
    def __init__(self, receive: Any) -> None:
        self._receive = receive
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, address: Any) -> None:
        self._receive(data, address)


class LossyLink:
    """Stands in front of a UDP port. `loss`: share of datagrams lost each way, or `loss_back` on the way back; `jitter`: up
    to so many seconds late."""

    def __init__(
        self, target: tuple[str, int], *, loss: float, jitter: float, seed: int, loss_back: float | None = None
    ) -> None:
        self._target = target
        self._loss = loss
        self._loss_back = loss if loss_back is None else loss_back
        self._jitter = jitter
        self._random = random.Random(seed)
        self._front: _Endpoint | None = None
        self._behind: dict[Any, _Endpoint] = {}
        self._opening: dict[Any, list[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.passed = 0
        self.lost = 0
        self.sent = 0
        """By clients, what was lost of it included."""

    async def start(self) -> int:
        """Returns the port to use instead of the target's."""
        loop = asyncio.get_running_loop()
        _, self._front = await loop.create_datagram_endpoint(
            lambda: _Endpoint(self._from_client), local_addr=("127.0.0.1", 0)
        )
        assert self._front is not None and self._front.transport is not None
        return self._front.transport.get_extra_info("sockname")[1]

    def _carry(self, endpoint: _Endpoint | None, data: bytes, address: Any, loss: float) -> None:
        if self._random.random() < loss:
            self.lost += 1
            return
        self.passed += 1

        def send() -> None:
            if endpoint is not None and endpoint.transport is not None and not endpoint.transport.is_closing():
                endpoint.transport.sendto(data, address)

        asyncio.get_running_loop().call_later(self._random.random() * self._jitter, send)

    def _from_client(self, data: bytes, client: Any) -> None:
        self.sent += 1
        if client in self._behind:
            self._carry(self._behind[client], data, self._target, self._loss)
        elif client in self._opening:
            self._opening[client].append(data)
        else:
            self._opening[client] = [data]
            task = asyncio.get_running_loop().create_task(self._open(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self, client: Any) -> None:
        loop = asyncio.get_running_loop()
        _, endpoint = await loop.create_datagram_endpoint(
            lambda: _Endpoint(lambda data, _: self._carry(self._front, data, client, self._loss_back)),
            local_addr=("127.0.0.1", 0),
        )
        self._behind[client] = endpoint
        for data in self._opening.pop(client):
            self._carry(endpoint, data, self._target, self._loss)

    def close(self) -> None:
        for endpoint in [self._front, *self._behind.values()]:
            if endpoint is not None and endpoint.transport is not None:
                endpoint.transport.close()


@contextmanager
def through(relay: int, port: int) -> Iterator[None]:
    """What our participants of this process are told meanwhile names UDP port `relay` instead of the server's `port`."""
    apply = Transport.handle_answer

    def redirected(self: Transport, answer: Any) -> Any:
        answer.sdp = re.sub(rf"(a=candidate:\S+ \d udp \d+ \S+) {port} ", rf"\1 {relay} ", answer.sdp)
        return apply(self, answer)

    with (
        mock.patch.object(Transport, "handle_answer", redirected),
        mock.patch.object(Transport, "handle_trickle", lambda self, candidate: None),
    ):
        yield
