"""The HTTP surface around the routes: CORS, doubled slashes, health, the web page and tokens for development."""

from __future__ import annotations

import ipaddress
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from greenroom.api.access_token import AccessToken
from greenroom.api.grants import VideoGrants

from .auth import Authenticator

__all__ = ["add_cors", "add_dev_token", "add_health", "add_page", "collapse_slashes", "http_logger", "page_folder"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CORS_METHODS = ("OPTIONS", "HEAD", "GET", "POST", "PATCH", "DELETE")
CORS_SECONDS = 86400

DEV_TOKEN_PATH = "/api/token"

http_logger = logging.getLogger("greenroom.server.http")
"""Where aiohttp reports requests that failed."""


def _worth_a_line(record: logging.LogRecord) -> bool:
    """What is not HTTP is answered with 400. Anybody can send it, so it must not fill the log with tracebacks."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


http_logger.addFilter(_worth_a_line)


def add_cors(app: web.Application) -> None:
    """Any origin may call: the API is protected by tokens, not by cookies. `POST /api/token` gives such tokens away, so it is
    for no other site's page."""

    @web.middleware
    async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = request.headers.get("Access-Control-Request-Method")
        if request.method != "OPTIONS" or not asked or "Origin" not in request.headers or _is_dev_token(request):
            return await handler(request)
        response = web.Response(status=204, headers={"Vary": "Origin"})
        if asked.upper() in CORS_METHODS:
            response.headers["Access-Control-Allow-Methods"] = asked.upper()
            if headers := request.headers.get("Access-Control-Request-Headers"):
                response.headers["Access-Control-Allow-Headers"] = headers
            response.headers["Access-Control-Max-Age"] = str(CORS_SECONDS)
        return response

    async def allow(request: web.Request, response: web.StreamResponse) -> None:
        if (origin := request.headers.get("Origin")) and not _is_dev_token(request):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers.add("Vary", "Origin")

    app.middlewares.append(preflight)
    app.on_response_prepare.append(allow)


def collapse_slashes(app: web.Application) -> None:
    """`//rtc` is `/rtc`: a base URL with a trailing slash is a common mistake that clients used to get away with."""
    app.router.register_resource(_DoubledSlashes(app.router))


class _DoubledSlashes(web.AbstractResource):
    """Stands for every path that begins with two slashes or more: finds what the path with one of them leads to."""

    def __init__(self, router: web.UrlDispatcher) -> None:
        super().__init__()
        self._router = router

    @property
    def canonical(self) -> str:
        return "/"  # the dispatcher comes here for every path that it has found nothing for

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        raw = request.rel_url.raw_path
        if not raw.startswith("//"):
            return None, set()
        url = URL.build(path="/" + raw.lstrip("/"), query_string=request.rel_url.raw_query_string, encoded=True)
        return await self._router.resolve(request.clone(rel_url=url)), set()

    def raw_match(self, path: str) -> bool:
        return False  # no route is ever added to it

    def url_for(self, **kwargs: str) -> NoReturn:
        raise RuntimeError("doubled slashes are taken, never given")

    def add_prefix(self, prefix: str) -> NoReturn:
        raise RuntimeError("doubled slashes collapse at the root only")

    def get_info(self) -> Any:
        return {"path": self.canonical}

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return iter(())


def page_folder() -> Path | None:
    """The built web page, when this installation has it."""
    folder = Path(str(files("greenroom"))) / "web"
    return folder if (folder / "index.html").is_file() else None


def add_health(app: web.Application, ready: Callable[[], bool], page: Path | None) -> None:
    """`/` answers OK while the server takes joins. Browsers get the page instead, when there is one."""

    async def root(request: web.Request) -> web.StreamResponse:
        if page and "text/html" in request.headers.get("Accept", ""):
            return web.FileResponse(page / "index.html", headers={"Cache-Control": "no-cache"})
        if not ready():
            return web.Response(status=406, text="Not Ready")
        return web.Response(text="OK")

    app.router.add_get("/", root)  # HEAD too: clients send it to warm the connection up


def add_page(app: web.Application, page: Path) -> None:
    """The page's other files. Only what is there at the start is served."""
    for entry in sorted(page.iterdir()):
        if entry.is_dir():
            app.router.add_static(f"/{entry.name}", entry)
        elif entry.name != "index.html":
            app.router.add_get(f"/{entry.name}", _file(entry))


def _file(path: Path) -> Handler:
    async def send(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(path)

    return send


def _is_dev_token(request: web.BaseRequest) -> bool:
    return "/" + request.path.lstrip("/") == DEV_TOKEN_PATH


def _stranger(request: web.BaseRequest) -> str:
    """Why the request gets no development token, in words; empty for this machine's own programs and the server's own page.

    The name that was asked for counts too: through a tunnel or a name that points to 127.0.0.1 the whole world would come
    from loopback."""
    if not _is_loopback(request.remote or ""):
        return f"only this machine gets development tokens, not {request.remote}"
    if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
        return "only this machine gets development tokens, not what a proxy brings"
    name = request.url.host or ""
    if name != "localhost" and not _is_loopback(name):
        return f"only this machine gets development tokens, under localhost or 127.0.0.1, not {name!r}"
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}":
        return f"only this server's own page gets development tokens, not one of {origin}"
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return "only this server's own page gets development tokens"
    return ""


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return ((parsed.version == 6 and parsed.ipv4_mapped) or parsed).is_loopback


def add_dev_token(app: web.Application, authenticator: Authenticator) -> None:
    """`POST /api/token`: a join token for this machine's programs and the server's own page. For development only.

    Request and answer have the shape of livekit-client's `TokenSource.endpoint`.
    """

    async def create(request: web.Request) -> web.Response:
        if refusal := _stranger(request):
            return web.json_response({"error": refusal}, status=403)
        try:
            body = json.loads(await request.read() or b"{}")
            token, room = _join_token(body, authenticator)
        except (ValueError, RecursionError) as error:
            return web.json_response({"error": str(error)}, status=400)
        secure = request.headers.get("X-Forwarded-Proto", request.scheme) == "https"
        url = f"{'wss' if secure else 'ws'}://{request.host}"
        return web.json_response({"server_url": url, "participant_token": token, "room_name": room})

    app.router.add_post(DEV_TOKEN_PATH, create)


def _join_token(body: Any, authenticator: Authenticator) -> tuple[str, str]:
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")

    def text(snake: str, camel: str) -> str:
        value = body.get(snake, body.get(camel)) or ""
        if not isinstance(value, str):
            raise ValueError(f"{snake} must be text")
        return value.strip()

    room = text("room_name", "roomName") or "playground"
    name = text("participant_name", "participantName")
    identity = text("participant_identity", "participantIdentity")
    if not identity:
        identity = f"{name or 'guest'}-{secrets.token_hex(3)}"
    key = authenticator.default_key
    token = AccessToken(key, authenticator.secret(key)).with_identity(identity).with_name(name or identity)
    token.with_grants(VideoGrants(room_join=True, room=room, can_update_own_metadata=True))
    if metadata := text("participant_metadata", "participantMetadata"):
        token.with_metadata(metadata)
    attributes = body.get("participant_attributes", body.get("participantAttributes"))
    if attributes:
        if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
            raise ValueError("participant_attributes must be an object of texts")
        token.with_attributes(attributes)
    if config := body.get("room_config", body.get("roomConfig")):
        token.with_room_config(_room_config(config))
    return token.to_jwt(), room


def _room_config(raw: Any) -> Any:
    from google.protobuf.json_format import ParseDict, ParseError
    from livekit.protocol.room import RoomConfiguration

    try:
        return ParseDict(raw, RoomConfiguration(), ignore_unknown_fields=True)
    except (ParseError, TypeError, AttributeError) as error:
        raise ValueError(f"room_config: {error}") from error
