"""A decision that falls while our SDK is away reaches it: it does not come back into a room that it was sent out of."""

from __future__ import annotations

import pytest
from livekit.protocol import models

from greenroom import rtc
from greenroom.server.app import RoomServer

from .rtc_pairs import GREENROOM, in_room, lose_socket

both_modes = pytest.mark.parametrize("dual", [False, True], ids=["single", "dual"])


@both_modes
@pytest.mark.parametrize("full", [False, True], ids=["resume", "full reconnect"])
@pytest.mark.parametrize("deleted", [False, True], ids=["kicked", "room deleted"])
async def test_who_was_sent_away_meanwhile_stays_away(
    room_server: RoomServer, dual: bool, full: bool, deleted: bool
) -> None:
    """The way back is begun, then the end comes: one of the two had to be told by the answer to the other."""
    async with in_room(room_server, GREENROOM, GREENROOM, dual=dual) as (alice, _):
        session = alice.room._core.session
        assert session is not None and session.signal is not None
        name = alice.room.name
        lose_socket(alice)  # no farewell can reach it any more
        session.recovery.start(full=full)
        if deleted:
            await room_server.manager.delete_room(name)
        else:
            assert room_server.manager.rooms[name].remove_participant(alice.me.identity)
        (reason,) = await alice.seen("disconnected")
        wanted = models.DisconnectReason.ROOM_DELETED if deleted else models.DisconnectReason.PARTICIPANT_REMOVED
        assert reason == wanted
        assert alice.room.connection_state == rtc.ConnectionState.CONN_DISCONNECTED
        room = room_server.manager.rooms.get(name)
        assert (room is None) == deleted and not (room and "alice" in room.participants)
