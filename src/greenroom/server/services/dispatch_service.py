"""`livekit.AgentDispatchService` on top of the dispatcher. Each method runs on the node of its room."""

from __future__ import annotations

from typing import Any

from livekit.protocol import agent_dispatch as messages

from ..auth import Auth
from ..dispatch import Dispatcher, TooManyDispatches
from ..manager import MediaFailed, RoomManager, TooManyRooms
from ..twirp import Rpc, TwirpError

__all__ = ["dispatch_rpcs"]


def dispatch_rpcs(dispatcher: Dispatcher, manager: RoomManager) -> dict[str, Rpc]:
    """`manager`: whose settings say how long metadata and attributes may be."""

    async def create(auth: Auth, request: messages.CreateAgentDispatchRequest) -> messages.AgentDispatch:
        auth.require_room_admin(request.room)
        if not request.room:
            raise TwirpError("invalid_argument", "room name is missing")
        try:
            manager.settings.check_wish(request)
            return await dispatcher.create(request)
        except ValueError as error:
            raise TwirpError("invalid_argument", str(error)) from error
        except (MediaFailed, TooManyRooms) as error:
            raise TwirpError("unavailable", str(error)) from error
        except TooManyDispatches as error:
            raise TwirpError("resource_exhausted", str(error)) from error

    async def delete(auth: Auth, request: messages.DeleteAgentDispatchRequest) -> messages.AgentDispatch:
        auth.require_room_admin(request.room)
        try:
            return await dispatcher.delete(request.room, request.dispatch_id)
        except LookupError as error:
            raise TwirpError("not_found", str(error.args[0])) from error

    async def list_(auth: Auth, request: messages.ListAgentDispatchRequest) -> messages.ListAgentDispatchResponse:
        auth.require_room_admin(request.room)
        try:
            dispatches = dispatcher.listed(request.room, request.dispatch_id)
        except LookupError as error:
            raise TwirpError("not_found", str(error.args[0])) from error
        return messages.ListAgentDispatchResponse(agent_dispatches=dispatches)

    def named(request: Any) -> str:
        return str(request.room)

    return {
        "CreateDispatch": Rpc(messages.CreateAgentDispatchRequest, create, room=named, opens=True),
        "DeleteDispatch": Rpc(messages.DeleteAgentDispatchRequest, delete, room=named),
        "ListDispatch": Rpc(messages.ListAgentDispatchRequest, list_, room=named),
    }
