"""Somebody at the door: all that can be said of a join before anything is known of the room it is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .auth import PERMISSION_DENIED, Auth, AuthError
from .bounds import MAX_ATTRIBUTES, MAX_ROOM_CONFIG
from .join import BadJoin, Join, joined_attributes, parse_join
from .rules import Refused
from .settings import RoomSettings

__all__ = ["Arrival", "read_arrival"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A good token and a request that can be read, within the limits. The node of the room decides about the rest."""

    auth: Auth
    join: Join
    room: str
    identity: str
    """The session's: the token's, with the name of a publish-only session behind it."""
    address: str
    """Of the client, as `Visitor.address`."""
    single: bool
    """The path is `/rtc/v1`."""
    query: Mapping[str, str] = field(default_factory=dict)
    """`join`, `room` and `identity` were read from it and `user_agent`: with `auth` and `address` this is all that another
    node needs to make the same arrival."""
    user_agent: str = ""


def read_arrival(
    auth: Auth, query: Mapping[str, str], user_agent: str, settings: RoomSettings, *, single: bool, address: str
) -> Arrival:
    """Raises Refused with the status and the text that the client expects."""
    try:
        auth.require("room_join")
    except AuthError as error:
        raise Refused(str(error), error.status) from error
    try:
        join = parse_join(query, user_agent, single=single)
    except BadJoin as error:
        raise Refused(str(error), 400) from error
    name = auth.video.room or join.room
    identity = auth.claims.identity
    if not identity:
        raise Refused("identity cannot be empty", 400)
    if not name:
        raise Refused("room name cannot be empty", 400)
    for value, limit, what in (
        (identity, settings.max_identity_length, "identity"),
        (auth.claims.name, settings.max_name_length, "participant name"),
        (name, settings.max_room_name_length, "room name"),
    ):
        if limit and len(value) > limit:
            raise Refused(f"{what} exceeds the limit of {limit} characters", 400)
    if (join.metadata or join.attributes) and not auth.video.can_update_own_metadata:
        raise Refused(PERMISSION_DENIED, 401)
    _check_sizes(auth, join, settings)
    if join.publish_only:
        if not auth.video.can_publish:
            raise Refused(PERMISSION_DENIED, 401)
        identity += f"#{join.publish_only}"
    return Arrival(auth, join, name, identity, address, single, query, user_agent)


def _check_sizes(auth: Auth, join: Join, settings: RoomSettings) -> None:
    """What a participant says of itself when it joins has the limits of what it says later."""
    metadata = join.metadata or auth.claims.metadata or ""
    attributes = joined_attributes(auth.claims, join)
    size = sum(len(key.encode()) + len(value.encode()) for key, value in attributes.items())
    if settings.max_metadata_size and len(metadata.encode()) > settings.max_metadata_size:
        raise Refused(f"metadata exceeds the limit of {settings.max_metadata_size} bytes", 400)
    if settings.max_attributes_size and size > settings.max_attributes_size:
        raise Refused(f"attributes exceed the limit of {settings.max_attributes_size} bytes", 400)
    if len(attributes) > MAX_ATTRIBUTES:
        raise Refused(f"more than {MAX_ATTRIBUTES} attributes", 400)
    if (config := auth.claims.room_config) is None:
        return
    if settings.max_metadata_size and len(config.metadata.encode()) > settings.max_metadata_size:
        raise Refused(f"room metadata exceeds the limit of {settings.max_metadata_size} bytes", 400)
    try:
        for wish in config.agents:
            settings.check_wish(wish)
    except ValueError as error:
        raise Refused(f"the token's room configuration: {error}", 400) from error
    most = MAX_ROOM_CONFIG + (settings.max_metadata_size + settings.max_attributes_size) // 2
    if config.ByteSize() > most:
        raise Refused(f"the token's room configuration exceeds the limit of {most} bytes", 400)
