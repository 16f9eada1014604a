"""What the server answers around its protocols: health, CORS, doubled slashes, limits, tokens for development."""

import asyncio

import aiohttp
import pytest

from greenroom.api import TokenVerifier
from greenroom.server import http as surface
from greenroom.server.app import RoomServer
from greenroom.server.config import ServerConfig, load_config
from tests.conftest import token

from .server_fakes import FakeMediaServer


@pytest.fixture
async def server():
    async with RoomServer(ServerConfig.dev(port=0), media=FakeMediaServer()) as running:
        yield running


@pytest.fixture
async def http(server):
    async with aiohttp.ClientSession(server.url, raise_for_status=False) as session:
        yield session


async def test_health_is_ok_for_get_and_head(http):
    async with http.get("/") as response:
        assert (response.status, await response.text()) == (200, "OK")
    async with http.head("/") as response:
        assert response.status == 200


async def test_a_draining_server_is_not_ready(server, http):
    assert await server.drain(1.0), "nobody is there"
    async with http.get("/") as response:
        assert response.status == 406


async def test_unknown_paths_are_not_found(http):
    for path in ("/nothing", "/twirp", "/debug/pprof", "/settings/regions"):
        async with http.get(path) as response:
            assert response.status == 404


@pytest.mark.parametrize("path", ["//", "//rtc/validate", "///rtc/v1/validate"])
async def test_doubled_slashes_collapse(server, path):
    async with aiohttp.ClientSession() as session, session.get(server.url + path) as response:
        assert response.status != 404


async def test_any_origin_may_call(http):
    headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    headers["Access-Control-Request-Headers"] = "authorization, content-type"
    async with http.options("/twirp/livekit.RoomService/ListRooms", headers=headers) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert response.headers["Access-Control-Allow-Methods"] == "POST"
        assert response.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
        assert response.headers["Access-Control-Max-Age"] == "86400"
    for method, path in (("GET", "/"), ("GET", "/rtc/validate"), ("POST", "/twirp/livekit.RoomService/ListRooms")):
        async with http.request(method, path, headers={"Origin": "https://app.example"}) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
    headers["Access-Control-Request-Method"] = "PUT"
    async with http.options("/", headers=headers) as response:
        assert "Access-Control-Allow-Methods" not in response.headers


async def test_long_request_lines_are_read(http):
    async with http.get(
        "/rtc/validate", params={"access_token": token("ann"), "join_request": "x" * 1_500_000}
    ) as response:
        assert response.status in (200, 400), "read and judged"


async def test_too_long_request_lines_are_refused(http):
    async with http.get("/rtc/validate", params={"x": "y" * 2_100_000}) as response:
        assert response.status in (400, 414)
    async with http.get("/") as response:
        assert response.status == 200


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 100_000])
async def test_what_is_not_http_is_answered_without_a_traceback(server, http, caplog, garbage):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(garbage)
    answer = await asyncio.wait_for(reader.read(100), 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.") and b" 400 " in answer
    assert "Traceback" not in caplog.text
    async with http.get("/") as response:
        assert response.status == 200


async def test_bodies_over_ten_mebibytes_are_refused(http):
    headers = {"Authorization": f"Bearer {token('ann', room_list=True)}", "Content-Type": "application/json"}
    body = b" " * (10 * 1024 * 1024 + 1)
    async with http.post("/twirp/livekit.RoomService/ListRooms", data=body, headers=headers) as response:
        assert response.status == 413
    async with http.post("/twirp/livekit.RoomService/ListRooms", data=b"{}", headers=headers) as response:
        assert response.status == 200


async def test_a_development_token_joins(server, http):
    body = {"room_name": "den", "participant_name": "Ann", "participant_identity": "ann"}
    async with http.post("/api/token", json=body) as response:
        answer = await response.json()
    assert response.status == 200
    assert answer["server_url"] == server.url.replace("http", "ws") and answer["room_name"] == "den"
    claims = TokenVerifier("devkey", "secret").verify(answer["participant_token"])
    assert (claims.identity, claims.name, claims.video.room, claims.video.room_join) == ("ann", "Ann", "den", True)
    async with http.get("/rtc/validate", params={"access_token": answer["participant_token"]}) as response:
        assert (response.status, await response.text()) == (200, "success")


async def test_a_development_token_may_name_agents(http):
    body = {"roomConfig": {"agents": [{"agentName": "kitt"}]}}
    async with http.post("/api/token", json=body) as response:
        answer = await response.json()
    claims = TokenVerifier("devkey", "secret").verify(answer["participant_token"])
    assert claims.room_config.agents[0].agent_name == "kitt"
    assert claims.video.room == answer["room_name"] and claims.identity


@pytest.mark.parametrize(
    "body", ["[]", "{", '{"room_name": 5}', '{"participant_attributes": {"a": 1}}', '{"room_config": {"agents": 1}}']
)
async def test_a_bad_token_request_is_a_clear_error(http, body):
    async with http.post("/api/token", data=body) as response:
        assert response.status == 400 and (await response.json())["error"]


STRANGERS = [
    ({"Origin": "https://evil.example"}, "not one of https://evil.example"),
    ({"Origin": "null"}, "not one of null"),
    ({"Origin": "http://localhost:1"}, "not one of http://localhost:1"),
    ({"Sec-Fetch-Site": "cross-site"}, "this server's own page"),
    ({"Host": "rebound.example"}, "not 'rebound.example'"),
    ({"X-Forwarded-For": "203.0.113.9"}, "a proxy"),
    ({"Forwarded": "for=203.0.113.9"}, "a proxy"),
]


@pytest.mark.parametrize(("headers", "reason"), STRANGERS, ids=lambda value: str(value)[:40])
async def test_a_development_token_is_for_this_machine_and_the_servers_own_page(http, headers, reason):
    async with http.post("/api/token", json={"room_name": "board"}, headers=headers) as response:
        assert response.status == 403 and reason in (await response.json())["error"]
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_the_servers_own_page_gets_development_tokens(server, http):
    headers = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    async with http.post("/api/token", json={}, headers=headers) as response:
        assert response.status == 200


async def test_no_other_site_may_ask_for_a_development_token(server):
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with aiohttp.ClientSession() as http:
        for path in ("/api/token", "//api/token"):
            async with http.options(server.url + path, headers=asked) as response:
                assert response.status == 405
                assert not any(name.startswith("Access-Control") for name in response.headers)
        async with http.options(server.url + "/twirp/livekit.RoomService/ListRooms", headers=asked) as response:
            assert response.status == 204 and response.headers["Access-Control-Allow-Methods"] == "POST"


async def test_a_development_server_that_all_can_reach_gives_tokens_to_its_own_machine_only(monkeypatch):
    """A configuration file may say `development: true` and bind to all interfaces."""
    config = load_config(f"development: true\nport: 0\nkeys: {{prod: {'s' * 32}}}\nbind_addresses: ['']\n")
    async with RoomServer(config, media=FakeMediaServer()) as server, aiohttp.ClientSession(server.url) as session:
        async with session.post("/api/token", json={}) as response:
            assert response.status == 200
        monkeypatch.setattr("aiohttp.web.BaseRequest.remote", "203.0.113.9")
        async with session.post("/api/token", json={"room_name": "board-meeting"}) as response:
            assert response.status == 403 and "not 203.0.113.9" in (await response.json())["error"]


async def test_only_development_servers_hand_out_tokens():
    config = ServerConfig(port=0, bind_addresses=["127.0.0.1"], keys={"k": "s" * 32})
    async with RoomServer(config, media=FakeMediaServer()) as server, aiohttp.ClientSession(server.url) as session:
        async with session.post("/api/token", json={}) as response:
            assert response.status == 404


async def test_browsers_get_the_page_and_programs_get_ok(monkeypatch, tmp_path):
    (tmp_path / "index.html").write_text("<title>Greenroom</title>")
    (tmp_path / "icon.svg").write_text("<svg/>")
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "app.js").write_text("1")
    monkeypatch.setattr("greenroom.server.app.page_folder", lambda: tmp_path)
    config = ServerConfig.dev(port=0)
    async with RoomServer(config, media=FakeMediaServer()) as server, aiohttp.ClientSession(server.url) as session:
        async with session.get("/", headers={"Accept": "text/html,*/*"}) as response:
            assert response.content_type == "text/html" and "Greenroom" in await response.text()
        async with session.get("/") as response:
            assert await response.text() == "OK"
        for path in ("/icon.svg", "/assets/app.js"):
            async with session.get(path) as response:
                assert response.status == 200
        for path in ("/assets/../../etc/passwd", "/assets/%2e%2e/index.html", "/assets/"):
            async with session.get(path) as response:
                assert response.status in (403, 404)


def test_the_page_is_optional(monkeypatch, tmp_path):
    monkeypatch.setattr(surface, "files", lambda _: tmp_path)
    assert surface.page_folder() is None
