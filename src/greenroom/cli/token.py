"""`greenroom token`: access tokens from the command line."""

from __future__ import annotations

import datetime
import re
from typing import Annotated, NoReturn

import typer

from greenroom.api import AccessToken, VideoGrants

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Make access tokens.")

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@app.callback()
def token() -> None:
    """Make access tokens."""


@app.command()
def create(
    room: Annotated[str, typer.Option(help="The room to join or to moderate.")] = "",
    identity: Annotated[str, typer.Option(help="Who the token is for. Unique in a room.")] = "",
    name: Annotated[str, typer.Option(help="The name others see.")] = "",
    metadata: Annotated[str, typer.Option(help="The participant's metadata.")] = "",
    attribute: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An attribute of the participant. Repeatable.")
    ] = None,
    agent: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Dispatch this agent when the room opens. Repeatable.")
    ] = None,
    valid_for: Annotated[str, typer.Option(metavar="TIME", help="Such as 30m, 6h or 2d.")] = "6h",
    join: Annotated[bool, typer.Option("--join", help="May join the room.")] = False,
    admin: Annotated[bool, typer.Option("--admin", help="May moderate the room.")] = False,
    create_rooms: Annotated[bool, typer.Option("--create", help="May create and delete rooms.")] = False,
    list_rooms: Annotated[bool, typer.Option("--list", help="May list rooms.")] = False,
    worker: Annotated[bool, typer.Option("--worker", help="May register as an agent worker.")] = False,
    api_key: Annotated[str, typer.Option(envvar="LIVEKIT_API_KEY")] = "devkey",
    api_secret: Annotated[str, typer.Option(envvar="LIVEKIT_API_SECRET", show_default=False)] = "secret",
) -> None:
    """Print a token with the grants you name. Without a key it is for a server started with --dev."""
    # A token that allows nothing is refused everywhere, and hours later. The official tool asks for permissions then, and
    # refuses when there is nobody to ask.
    if not any((join, admin, create_rooms, list_rooms, worker)):
        _refuse("this token would allow nothing: add --join, --admin, --create, --list or --worker")
    if admin and not room:
        _refuse("--admin moderates one room: name it with --room")
    grants = VideoGrants(
        room=room,
        room_join=join or None,
        room_admin=admin or None,
        room_create=create_rooms or None,
        room_list=list_rooms or None,
        agent=worker or None,
    )
    builder = AccessToken(api_key, api_secret).with_identity(identity).with_name(name).with_metadata(metadata)
    builder.with_grants(grants).with_ttl(_duration(valid_for))
    if attribute:
        builder.with_attributes(dict(_pair(item) for item in attribute))
    if agent:
        from livekit.protocol.agent_dispatch import RoomAgentDispatch
        from livekit.protocol.room import RoomConfiguration

        wishes = [RoomAgentDispatch(agent_name=agent_name) for agent_name in agent]
        builder.with_room_config(RoomConfiguration(agents=wishes))
    try:
        typer.echo(builder.to_jwt())
    except ValueError as error:
        raise typer.BadParameter(f"{error}: use --identity and --room with --join") from error


def _refuse(why: str) -> NoReturn:
    typer.echo(f"greenroom token create: {why}", err=True)
    raise typer.Exit(2)


def _duration(text: str) -> datetime.timedelta:
    match = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if not match:
        raise typer.BadParameter(f"{text!r} is not a time such as 30m, 6h or 2d")
    return datetime.timedelta(seconds=int(match[1]) * UNITS[match[2]])


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE")
    return key, value
