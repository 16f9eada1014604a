"""An application's own rules: what they refuse is refused everywhere, in their words, and their mistakes let nobody in."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from livekit.protocol import models, rtc
from livekit.protocol.room import ListRoomsRequest

from greenroom.api import AccessToken, LiveKitAPI, TokenVerifier, VideoGrants
from greenroom.api.twirp import ServerError
from greenroom.server import rules as rules_module
from greenroom.server.app import RoomServer
from greenroom.server.config import ConfigError, ServerConfig, load_config
from greenroom.server.rules import Joining, Publishing, Quota, Refused, Rules, Usage, Visitor, load_rules
from tests.conftest import ROOT, token

from .server_client import client
from .server_fakes import FakeMediaServer

Reason = models.DisconnectReason
RequestReason = rtc.RequestResponse.Reason
Source = models.TrackSource

Serve = Callable[[Rules], Any]


@pytest.fixture
def serve(media: FakeMediaServer) -> Serve:
    @asynccontextmanager
    async def start(rules: Rules) -> AsyncIterator[RoomServer]:
        async with RoomServer(ServerConfig.dev(port=0), media=media, rules=rules) as server:
            yield server

    return start


async def refusal(server: RoomServer, identity: str = "alice", path: str = "/rtc/validate") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token(identity)}"}
    async with aiohttp.ClientSession(server.url) as http, http.get(path, headers=headers) as response:
        return response.status, await response.text()


def example() -> Any:
    spec = importlib.util.spec_from_file_location("rules_example", ROOT / "examples" / "06_rules.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_the_example_does_what_it_says(serve: Serve, media: FakeMediaServer) -> None:
    house = example().HouseRules()
    async with serve(house) as server:
        async with (
            client(server, media, "ann", room="board") as ann,
            client(server, media, "eve", room="board") as eve,
        ):
            assert ann.joined.participant.permission.can_publish
            assert not eve.joined.participant.permission.can_publish and not eve.joined.fast_publish
            assert (
                not TokenVerifier("devkey", "secret")
                .verify(next(r.refresh_token for r in eve.seen if r.HasField("refresh_token")))
                .video.can_publish
            ), "a renewed token says the same"
            assert (await ann.add_track("screen", "video", source=Source.SCREEN_SHARE)).sid
        async with client(server, media, "bob", room="board") as bob:
            request = rtc.AddTrackRequest(cid="s", type=models.TrackType.VIDEO, source=Source.SCREEN_SHARE)
            await bob.send(add_track=request)
            response = await bob.expect("request_response")
            assert (response.reason, response.message) == (RequestReason.NOT_ALLOWED, "only ann shares her screen here")
            number = server.manager.rooms["board"].participants["bob"].primary.number
            media.stats[number] = {"tracks": [{"track": 1, "inbound": True, "bytes": 700}]}
            server._accounts.read()  # type: ignore[union-attr]
            assert house.bill == {"devkey": 700}
        house.banned.add("")  # loopback, in development
        assert await refusal(server) == (403, "this address is banned")


# --- admission -------------------------------------------------------------------------------------------------------


async def test_who_is_not_admitted_gets_nothing_at_all(serve: Serve) -> None:
    class Closed(Rules):
        def admit(self, visitor: Visitor) -> None:
            self.seen = (visitor.method, visitor.path, visitor.headers["X-Test"])
            raise Refused("closed for today", 503)

    rules = Closed()
    async with serve(rules) as server:
        headers = {"X-Test": "yes"}
        async with aiohttp.ClientSession(server.url, headers=headers) as http:
            async with http.get("/") as response:
                assert (response.status, await response.text()) == (503, "closed for today")
            assert rules.seen == ("GET", "/", "yes")
            async with http.post("/twirp/livekit.RoomService/ListRooms", json={}) as response:
                assert response.status == 503
                assert await response.json() == {"code": "unavailable", "msg": "closed for today"}
        with pytest.raises(ServerError, match="cannot be asked"):  # KeyError: there is no X-Test
            async with LiveKitAPI(server.url, "devkey", "secret") as api:
                await api.room.list_rooms(ListRoomsRequest())
        assert server.manager.limited["rule_admit"] == 2 and server.manager.limited["rule_failed"] >= 1


# --- joining ---------------------------------------------------------------------------------------------------------


class Recorded(Rules):
    """Keeps what it was asked, and answers with `answer`."""

    def __init__(self) -> None:
        self.joins: list[Joining] = []
        self.publishes: list[Publishing] = []
        self.usages: list[Usage] = []
        self.refuse: Exception | None = None

    async def authorise_join(self, joining: Joining) -> VideoGrants | None:
        self.joins.append(joining)
        await asyncio.sleep(0)
        if self.refuse:
            raise self.refuse
        return None

    def authorise_publish(self, publishing: Publishing) -> None:
        self.publishes.append(publishing)
        if self.refuse:
            raise self.refuse

    def used(self, usage: Usage) -> None:
        self.usages.append(usage)


async def test_a_join_tells_the_rules_who_comes(serve: Serve, media: FakeMediaServer) -> None:
    rules = Recorded()
    made = AccessToken("devkey", "secret").with_identity("alice").with_name("Alice").with_kind("sip")
    made.with_grants(VideoGrants(room_join=True, room="test", can_update_own_metadata=True)).with_metadata("m")
    made.with_attributes({"a": "1"})
    async with serve(rules) as server, client(server, media, "bob"):
        async with client(server, media, "alice", jwt=made.to_jwt(), participant_attributes={"b": "2"}) as alice:
            joining = rules.joins[-1]
            assert (joining.room, joining.identity, joining.name, joining.kind) == ("test", "alice", "Alice", "sip")
            assert (joining.metadata, joining.attributes) == ("m", {"a": "1", "b": "2"})
            assert (joining.api_key, joining.address, joining.resumed, joining.participants) == ("devkey", "", False, 1)
            assert joining.grants.can_publish
        query = {"reconnect": "1", "sid": alice.sid}
        async with client(server, media, "alice", query=query, dual=True, connected=False) as back:
            assert back.seen[0].HasField("reconnect") and rules.joins[-1].resumed
            rules.refuse = Refused("your time is up", 401)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with client(server, media, "alice", query=query, dual=True, connected=False):
                pass
        assert refused.value.status == 401
        assert await refusal(server) == (401, "your time is up")
        assert server.manager.limited["rule_join"] == 2


@pytest.mark.parametrize("error", [ValueError("broken"), KeyError("x")])
async def test_a_rule_that_breaks_lets_nobody_in(serve: Serve, error: Exception) -> None:
    rules = Recorded()
    rules.refuse = error
    async with serve(rules) as server:
        assert await refusal(server) == (503, "the server's rules cannot be asked now")
        assert server.manager.limited["rule_failed"] == 1


async def test_a_rule_that_hangs_lets_nobody_in(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "HOOK_SECONDS", 0.01)

    class Slow(Rules):
        async def authorise_join(self, joining: Joining) -> None:
            await asyncio.Event().wait()

    async with serve(Slow()) as server:
        assert await refusal(server) == (503, "the server's rules cannot be asked now")


async def test_grants_of_a_rule_are_for_the_room_that_was_asked_for(serve: Serve, media: FakeMediaServer) -> None:
    class Elsewhere(Rules):
        def authorise_join(self, joining: Joining) -> VideoGrants:
            return VideoGrants(room="other", can_publish_sources=["camera"])

    async with serve(Elsewhere()) as server, client(server, media, "alice") as alice:
        assert alice.joined.room.name == "test"
        await alice.send(add_track=rtc.AddTrackRequest(cid="mic", source=Source.MICROPHONE))
        assert (await alice.expect("request_response")).reason == RequestReason.NOT_ALLOWED
        assert (await alice.add_track("cam", "video")).sid


# --- publishing ------------------------------------------------------------------------------------------------------


async def test_a_publish_tells_the_rules_what_comes(serve: Serve, media: FakeMediaServer) -> None:
    rules = Recorded()
    async with serve(rules) as server, client(server, media, "alice") as alice:
        await alice.publish("mic")
        await alice.add_track("cam", "video", name="my camera", width=640, height=360)
        publishing = rules.publishes[-1]
        assert (publishing.room, publishing.identity, publishing.participant_sid) == ("test", "alice", alice.sid)
        assert (publishing.kind, publishing.source, publishing.name) == ("video", "camera", "my camera")
        assert (publishing.width, publishing.height, publishing.tracks, publishing.api_key) == (640, 360, 1, "devkey")


async def test_tracks_that_come_with_the_join_are_asked_about_too(serve: Serve, media: FakeMediaServer) -> None:
    class NoVideo(Rules):
        def authorise_publish(self, publishing: Publishing) -> None:
            if publishing.kind == "video":
                raise Refused("sound only")

    requests = [
        rtc.AddTrackRequest(cid="mic", type=models.TrackType.AUDIO, source=Source.MICROPHONE),
        rtc.AddTrackRequest(cid="cam", type=models.TrackType.VIDEO, source=Source.CAMERA),
    ]
    async with serve(NoVideo()) as server, client(server, media, "alice", add_track_requests=requests) as alice:
        await alice.settle()
        published = [r.track_published.cid for r in alice.seen if r.HasField("track_published")]
        (refused,) = [r.request_response for r in alice.seen if r.HasField("request_response")]
        assert published == ["mic"]
        assert (refused.reason, refused.message, refused.add_track.cid) == (
            RequestReason.NOT_ALLOWED, "sound only", "cam",
        )  # fmt: skip


async def test_what_the_token_forbids_is_not_asked(serve: Serve, media: FakeMediaServer) -> None:
    rules = Recorded()
    async with serve(rules) as server, client(server, media, "alice", grants={"can_publish": False}) as alice:
        await alice.send(add_track=rtc.AddTrackRequest(cid="mic"))
        assert (await alice.expect("request_response")).reason == RequestReason.NOT_ALLOWED
        assert not rules.publishes


# --- quota and use ---------------------------------------------------------------------------------------------------


class Limited(Recorded):
    def __init__(self, **quota: Any) -> None:
        super().__init__()
        self.limits = quota

    def quota(self, api_key: str) -> Quota:
        return Quota(**self.limits)


async def test_a_key_has_so_many_participants(serve: Serve, media: FakeMediaServer) -> None:
    async with serve(Limited(participants=2)) as server:
        async with client(server, media, "alice"), client(server, media, "bob", room="other") as bob:
            assert await refusal(server, "carol") == (429, "all 2 participants of this API key are in")
            assert (await refusal(server, "alice"))[0] == 200, "in the place of herself"
            await bob.send(leave=rtc.LeaveRequest())
            await bob.ws.receive()
            assert (await refusal(server, "carol"))[0] == 200


async def test_two_who_want_the_last_place_of_a_key_do_not_both_get_it(serve: Serve) -> None:
    async with serve(Limited(participants=1)) as server, aiohttp.ClientSession(server.url) as http:
        sockets = await asyncio.gather(
            *(http.ws_connect("/rtc", params={"access_token": token(n, room=n)}) for n in ("a", "b", "c")),
            return_exceptions=True,
        )
        kinds = []
        for socket in sockets:
            if isinstance(socket, aiohttp.ClientWebSocketResponse):
                kinds.append(rtc.SignalResponse.FromString(await socket.receive_bytes()).WhichOneof("message"))
        assert kinds.count("join") == 1 and sum(len(r.participants) for r in server.manager.rooms.values()) == 1


async def test_use_is_counted_by_session_and_ends_with_the_quota(serve: Serve, media: FakeMediaServer) -> None:
    rules = Limited(bytes=1000, period=3600)
    async with serve(rules) as server, client(server, media, "alice") as alice:
        participant = server.manager.rooms["test"].participants["alice"]
        tracks = [{"track": 1, "inbound": True, "ssrc": 5, "bytes": 300}, {"track": 2, "inbound": False, "bytes": 200}]
        media.stats[participant.primary.number] = {"tracks": tracks}
        server._accounts.read()  # type: ignore[union-attr]
        usage = rules.usages[-1]
        assert (usage.identity, usage.bytes_in, usage.bytes_out, usage.last) == ("alice", 300, 200, False)
        tracks[0]["bytes"] = 400
        server._accounts.read()  # type: ignore[union-attr]
        assert (rules.usages[-1].bytes_in, rules.usages[-1].bytes_out) == (100, 0), "what is new"
        assert (await refusal(server, "bob"))[0] == 200
        tracks[0]["bytes"] = 900
        server._accounts.read()  # type: ignore[union-attr]
        assert (await alice.expect("leave")).reason == Reason.PARTICIPANT_REMOVED
        message = await alice.ws.receive()
        assert (message.data, message.extra) == (1008, "the media of this API key is used up")
        assert rules.usages[-1].last and await refusal(server, "bob") == (429, "the media of this API key is used up")
        rules.limits["period"] = 0.0  # the next period
        assert (await refusal(server, "bob"))[0] == 200


async def test_what_was_used_up_to_the_end_counts(serve: Serve, media: FakeMediaServer) -> None:
    """Who leaves before it is looked at has used it too."""
    rules = Limited(bytes=1000)
    async with serve(rules) as server, client(server, media, "alice") as alice:
        participant = server.manager.rooms["test"].participants["alice"]
        media.stats[participant.primary.number] = {"tracks": [{"track": 1, "inbound": True, "bytes": 5000}]}
        await alice.send(leave=rtc.LeaveRequest())
        await alice.ws.receive()
        assert [(usage.bytes_in, usage.last) for usage in rules.usages] == [(5000, True)]
        assert (await refusal(server, "bob"))[0] == 429


async def test_who_uses_too_much_is_sent_away_by_the_rule(serve: Serve, media: FakeMediaServer) -> None:
    class Stern(Recorded):
        def used(self, usage: Usage) -> None:
            if not usage.last:
                raise Refused("you have not paid")

    async with serve(Stern()) as server, client(server, media, "alice") as alice:
        server._accounts.read()  # type: ignore[union-attr]
        assert (await alice.expect("leave")).reason == Reason.PARTICIPANT_REMOVED
        assert (await alice.ws.receive()).extra == "you have not paid"


async def test_a_rule_about_use_that_breaks_ends_no_call(serve: Serve, media: FakeMediaServer) -> None:
    class Broken(Rules):
        def used(self, usage: Usage) -> None:
            raise ZeroDivisionError

    async with serve(Broken()) as server, client(server, media, "alice") as alice:
        server._accounts.read()  # type: ignore[union-attr]
        assert "leave" not in await alice.settle()
        assert server.manager.limited["rule_failed"] == 1


# --- configuration ---------------------------------------------------------------------------------------------------


async def test_a_configuration_names_its_rules(media: FakeMediaServer) -> None:
    text = f"keys: {{k: {'s' * 32}}}\nbind_addresses: [127.0.0.1]\nport: 0\nrules: {__name__}:Recorded\n"
    async with RoomServer(load_config(text), media=media) as server:
        assert isinstance(server._rules, Recorded)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nothing", "not of the form"),
        ("no.such.module:Rules", "cannot be loaded: No module named"),
        ("greenroom.server.rules:nothing", "cannot be loaded: module"),
        ("greenroom.server.rules:Quota", "is a Quota, not"),
        ("greenroom.server.rules:Usage", "cannot be loaded"),
    ],
)
def test_rules_that_cannot_be_loaded_are_named(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match="rules: .*" + text):
        RoomServer(ServerConfig.dev(rules=name))
    assert isinstance(load_rules("greenroom.server.rules:Rules"), Rules)
