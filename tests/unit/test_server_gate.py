"""The door: budgets by address, identity and API key, and whose address counts behind a proxy."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

from greenroom.api import ListRoomsRequest, LiveKitAPI, TwirpError
from greenroom.server.app import RoomServer
from greenroom.server.budgets import Rates
from greenroom.server.config import ConfigError, LimitConfig, ServerConfig, load_config
from greenroom.server.gate import Gate
from tests.conftest import token

from .server_client import OfferText, client, wrap
from .server_fakes import FakeMediaServer

KEYS = {"devkey": "secret"}


@asynccontextmanager
async def production(media: FakeMediaServer, **limits: Any) -> AsyncIterator[RoomServer]:
    """A server on loopback that is not in development mode, so loopback has budgets like any other address."""
    config = ServerConfig(port=0, keys=KEYS, bind_addresses=["127.0.0.1"], limit=LimitConfig(**limits))
    async with RoomServer(config, media=media) as server:
        yield server


def gate(*trusted: str, loopback_is_free: bool = False, **rates: int) -> Gate:
    return Gate(Rates(**rates), trusted, Counter(), loopback_is_free=loopback_is_free)


def request(peer: str, *forwarded: str) -> Any:
    headers = [("X-Forwarded-For", value) for value in forwarded]

    class Transport:
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return (peer, 1) if name == "peername" else default

        def is_closing(self) -> bool:
            return False

    from multidict import CIMultiDict

    return make_mocked_request("GET", "/", headers=CIMultiDict(headers), transport=Transport())


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "address"),
    [
        ([], "203.0.113.9", [], "203.0.113.9"),
        ([], "203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # nobody asked it to speak for others
        (["10.0.0.0/8"], "10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        (["10.0.0.0/8"], "10.1.2.3", ["6.6.6.6, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),  # 6.6.6.6 is anybody's word
        (["10.0.0.0/8"], "10.1.2.3", ["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
        (["10.0.0.0/8"], "10.1.2.3", ["198.51.100.1:4711"], "198.51.100.1"),
        (["10.0.0.0/8"], "10.1.2.3", ["[2001:db8:1:2:3::4]:4711"], "2001:db8:1:2::"),
        (["10.0.0.0/8"], "10.1.2.3", ["6.6.6.6, nonsense"], "10.1.2.3"),
        (["10.0.0.0/8"], "10.1.2.3", [], "10.1.2.3"),
        (["10.0.0.0/8"], "198.51.100.1", ["10.1.2.3"], "198.51.100.1"),
        (["::1"], "::1", ["198.51.100.1"], "198.51.100.1"),
        ([], "2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::"),
        ([], "::ffff:203.0.113.9", [], "203.0.113.9"),
        ([], "127.0.0.1", [], "127.0.0.1"),
    ],
)
def test_whose_address_counts(trusted: list[str], peer: str, forwarded: list[str], address: str) -> None:
    assert gate(*trusted).address(request(peer, *forwarded)) == address


def test_this_machine_is_free_in_development() -> None:
    one = gate("127.0.0.1", loopback_is_free=True, address_requests=1)
    assert one.address(request("127.0.0.1")) == one.address(request("::1")) == ""
    assert one.address(request("127.0.0.1", "198.51.100.1")) == "198.51.100.1"
    assert not any(one.request(request("::1"), 0.0) for _ in range(1000))


def test_one_address_does_not_use_up_anothers_budget() -> None:
    one = gate(address_requests=1)
    waits = [one.request(request("198.51.100.1"), 0.0) for _ in range(10)]
    assert [bool(wait) for wait in waits] == [False] * 4 + [True] * 6
    assert one.request(request("198.51.100.2"), 0.0) == 0


def test_who_comes_back_quickly_is_let_in_and_who_never_stops_is_not() -> None:
    from aiohttp.web import HTTPTooManyRequests

    one, ann = gate(), request("198.51.100.1")

    def joins(begin: float, end: float, pause: float) -> int:
        let_in, now = 0, begin
        while now < end:
            try:
                one.join(ann, "room", "ann", now)
                let_in += 1
            except HTTPTooManyRequests:
                assert now > begin
            now += pause
        return let_in

    assert joins(0.0, 3.0, 0.1) == 30, "a connection that flaps"
    assert joins(100.0, 160.0, 0.01) == pytest.approx(40 + 60 * 2, abs=2), "a flood: the burst and then the rate"


def test_one_identity_does_not_use_up_its_addresss_joins() -> None:
    from aiohttp.web import HTTPTooManyRequests

    one = gate(address_joins=10, identity_joins=1)
    refused = Counter[str]()
    for identity in ["loud"] * 26 + ["calm"] * 20 + ["other"]:
        try:
            one.join(request("198.51.100.1"), "room", identity, 0.0)
        except HTTPTooManyRequests as error:
            assert error.headers["Retry-After"] == "1"
            refused[identity] += 1
    assert refused == {"loud": 6, "other": 1}


async def test_too_many_requests_are_429_in_the_words_of_the_api_called(media: FakeMediaServer) -> None:
    async with production(media, address_requests=2) as server, aiohttp.ClientSession(server.url) as session:
        statuses = [(await session.get("/")).status for _ in range(8)]
        assert statuses == [200] * 8
        async with session.get("/", headers={"Origin": "https://example.org"}) as response:
            assert response.status == 429 and int(response.headers["Retry-After"]) >= 1
            assert await response.text() == "too many requests from this address"
            assert response.headers["Access-Control-Allow-Origin"] == "https://example.org"
        async with session.post("/twirp/livekit.RoomService/ListRooms") as response:
            assert response.status == 429 and int(response.headers["Retry-After"]) >= 1
            error = {"code": "resource_exhausted", "msg": "too many requests from this address"}
            assert await response.json() == error
        with pytest.raises(aiohttp.WSServerHandshakeError) as upgrade:
            await session.ws_connect("/rtc", params={"access_token": token("a")})
        assert upgrade.value.status == 429
        assert server.manager.limited["http_requests"] == 3


async def test_an_api_key_has_a_budget_of_its_own(media: FakeMediaServer) -> None:
    async with production(media, key_requests=1) as server, LiveKitAPI(server.url, "devkey", "secret") as api:
        for _ in range(4):
            await api.room.list_rooms(ListRoomsRequest())
        with pytest.raises(TwirpError) as error:
            await api.room.list_rooms(ListRoomsRequest())
        assert (error.value.code, error.value.status) == ("resource_exhausted", 429)
        assert server.manager.limited == {"key_requests": 1}


async def test_sessions_of_one_identity_begin_at_a_budget(media: FakeMediaServer) -> None:
    async with production(media, identity_joins=1) as server:
        for _ in range(20):
            async with client(server, media, "alice", connected=False):
                pass
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            for _ in range(60):  # on a slow machine the budget grows meanwhile
                async with client(server, media, "alice", connected=False):
                    pass
        assert refused.value.status == 429 and refused.value.headers and "Retry-After" in refused.value.headers
        async with client(server, media, "bob"):
            pass
        assert server.manager.limited == {"identity_joins": 1}


async def test_connections_of_one_address_are_counted_and_come_back(
    media: FakeMediaServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with production(media, address_connections=3) as server:

        async def ask() -> tuple[bytes, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(5):
                return await reader.readline(), writer

        async with asyncio.timeout(10):
            open_ones = [await ask() for _ in range(3)]
            assert all(b"200" in line for line, _ in open_ones)
            for _ in range(2):
                line, writer = await ask()
                assert b"429" in line
                writer.close()
            assert server.manager.limited == {"connections": 2}
            for _, writer in open_ones:
                writer.close()
            while b"200" not in (last := await ask())[0]:
                last[1].close()
                await asyncio.sleep(0.02)
            last[1].close()
        assert sum("at a time" in record.message for record in caplog.records) == 1


async def test_the_development_server_lets_a_crowd_of_this_machine_in(server: RoomServer) -> None:
    async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(limit=0)) as session:
        responses = await asyncio.gather(*(session.get("/") for _ in range(600)))
        assert {response.status for response in responses} == {200}
        for number in range(120):
            join = {"access_token": token(f"p{number}"), "join_request": wrap_join()}
            async with session.ws_connect("/rtc/v1", params=join) as socket:
                assert (await socket.receive()).type == aiohttp.WSMsgType.BINARY
    assert not server.manager.limited


def wrap_join() -> str:
    from livekit.protocol import rtc

    return wrap(rtc.JoinRequest(publisher_offer=rtc.SessionDescription(type="offer", sdp=str(OfferText()), id=1)))


def test_limits_are_read_from_the_file_and_checked() -> None:
    config = load_config("limit: {offers: 7, address_requests: 0, num_tracks: 3}\ntrusted_proxies: [10.0.0.0/8]")
    assert (config.limit.offers, config.limit.address_requests, config.limit.messages) == (7, 0, Rates().messages)
    assert config.limit.num_tracks == 3 and not config.ignored
    with pytest.raises(ConfigError, match=r"trusted_proxies: '10.0.0.1/8' is not"):
        ServerConfig.dev(trusted_proxies=["10.0.0.1/8"]).check()
    with pytest.raises(ConfigError, match=r"limit.offers must be a whole number"):
        load_config("limit: {offers: many}")
