"""Twirp: content types, error codes and statuses, and requests that nobody should have sent."""

import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from livekit.protocol import models, room

from greenroom.api import AccessToken, ServerError, VideoGrants
from greenroom.api.twirp import TwirpClient
from greenroom.server.auth import Auth, Authenticator
from greenroom.server.router import LocalRouter
from greenroom.server.twirp import Rpc, Services, TwirpError, TwirpRouter

PATH = "/twirp/livekit.RoomService"


async def echo(auth: Auth, request: room.CreateRoomRequest) -> models.Room:
    auth.require("room_create")
    if request.name == "slow":
        await asyncio.Event().wait()
    if request.name == "broken":
        raise RuntimeError("an internal detail")
    if request.name == "missing":
        raise TwirpError("not_found", "requested room does not exist", {"room": "missing"})
    return models.Room(name=request.name, empty_timeout=request.empty_timeout, creation_time=2**40)


@pytest.fixture
async def client():
    services = Services({"RoomService": {"CreateRoom": Rpc(room.CreateRoomRequest, echo)}})
    router = TwirpRouter(Authenticator({"devkey": "secret"}), services, LocalRouter())
    app = web.Application(client_max_size=1024)
    app.router.add_route("*", "/twirp/{service}/{method}", router.handle)
    async with TestClient(TestServer(app)) as test_client:
        yield test_client


def bearer(**grants) -> dict[str, str]:
    token = AccessToken("devkey", "secret").with_grants(VideoGrants(**grants)).to_jwt()
    return {"Authorization": f"Bearer {token}"}


async def create(client, body, *, path=f"{PATH}/CreateRoom", headers=None, **options):
    headers = bearer(room_create=True) | (headers or {})
    kind = {"Content-Type": "application/json"}
    return await client.post(path, data=body, headers=kind | headers, **options)


async def test_protobuf_in_protobuf_out(client):
    body = room.CreateRoomRequest(name="a", empty_timeout=5).SerializeToString()
    response = await create(client, body, headers={"Content-Type": "application/protobuf"})
    assert response.status == 200 and response.content_type == "application/protobuf"
    assert models.Room.FromString(await response.read()).empty_timeout == 5


@pytest.mark.parametrize("body", ['{"name": "a", "empty_timeout": 5}', '{"name": "a", "emptyTimeout": 5, "later": 1}'])
async def test_json_takes_both_spellings_and_writes_defaults_in_snake_case(client, body):
    response = await create(client, body)
    answer = await response.json()
    assert response.status == 200
    assert answer["empty_timeout"] == 5 and answer["num_participants"] == 0 and answer["metadata"] == ""
    assert answer["creation_time"] == str(2**40)


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"body": "{"}, 400, "malformed"),
        ({"body": '{"name": 5}'}, 400, "malformed"),
        ({"body": "[" * 900}, 400, "malformed"),
        ({"body": b"\xff\xff\xff", "headers": {"Content-Type": "application/protobuf"}}, 400, "malformed"),
        ({"body": "{}", "headers": {"Content-Type": "text/plain"}}, 404, "bad_route"),
        ({"body": "{}", "path": f"{PATH}/Nothing"}, 404, "bad_route"),
        ({"body": "{}", "path": "/twirp/livekit.Nothing/CreateRoom"}, 404, "bad_route"),
        ({"body": '{"name": "missing"}'}, 404, "not_found"),
        ({"body": '{"name": "broken"}'}, 500, "internal"),
        ({"body": '{"name": "slow"}', "headers": {"X-Twirp-Timeout-Ms": "20"}}, 408, "deadline_exceeded"),
        ({"body": "{}", "headers": bearer(room_list=True)}, 401, "unauthenticated"),
    ],
)
async def test_errors_have_codes_and_statuses(client, options, status, code):
    response = await create(client, **options)
    answer = json.loads(await response.read())
    assert (response.status, answer["code"]) == (status, code)
    assert "internal detail" not in answer["msg"]


async def test_only_post_is_a_call(client):
    response = await client.get(f"{PATH}/CreateRoom", headers=bearer(room_create=True))
    assert (response.status, (await response.json())["code"]) == (404, "bad_route")


async def test_without_a_token(client):
    response = await client.post(f"{PATH}/CreateRoom", json={})
    assert (response.status, (await response.json())["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("header", ["Bearer x", "Basic eDp5", "Bearer ", ""])
async def test_a_bad_token_is_plain_text(client, header):
    response = await create(client, "{}", headers={"Authorization": header})
    assert response.status == 401 and response.content_type == "text/plain"
    assert (await response.text()).startswith("invalid authorization")


async def test_an_oversized_body_is_refused(client):
    assert (await create(client, json.dumps({"name": "x" * 2000}))).status == 413


async def test_our_client_speaks_it_and_raises_the_server_s_error(client):
    twirp = TwirpClient(client.session, f"ws://{client.host}:{client.port}/")
    request = room.CreateRoomRequest(name="a")
    answer = await twirp.request("RoomService", "CreateRoom", request, bearer(room_create=True), models.Room)
    assert answer.name == "a"
    with pytest.raises(ServerError) as caught:
        request = room.CreateRoomRequest(name="missing")
        await twirp.request("RoomService", "CreateRoom", request, bearer(room_create=True), models.Room)
    error = caught.value
    assert (error.code, error.status, error.metadata) == ("not_found", 404, {"room": "missing"})
    with pytest.raises(ServerError) as caught:
        await twirp.request("RoomService", "CreateRoom", request, {"Authorization": "Bearer x"}, models.Room)
    assert (caught.value.status, caught.value.message) == (401, "invalid authorization token")
