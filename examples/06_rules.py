"""A room server with rules of its own: banned addresses, a guest list, one who shares the screen, and a budget for each key.

    python examples/06_rules.py

A server that runs by `greenroom server` takes the same rules from its file: `rules: "house:HouseRules"` (a module that Python
finds, and a name in it).
"""

import asyncio

from greenroom.api import VideoGrants
from greenroom.server.app import RoomServer
from greenroom.server.config import ServerConfig
from greenroom.server.rules import Joining, Publishing, Quota, Refused, Rules, Usage, Visitor


class HouseRules(Rules):
    def __init__(self) -> None:
        self.banned = {"203.0.113.9"}
        self.guests = {"board": {"ann", "bob"}}
        self.bill: dict[str, int] = {}

    def admit(self, visitor: Visitor) -> None:
        """Before anything is read."""
        if visitor.address in self.banned:
            raise Refused("this address is banned")

    async def authorise_join(self, joining: Joining) -> VideoGrants | None:
        """What only our database knows, so it may wait (5 s at most)."""
        guests = await self._guests_of(joining.room)
        if guests is None or joining.identity in guests:
            return None
        if joining.kind == "agent":
            raise Refused("no agents in this room")
        # Others may listen, whatever their token says.
        return VideoGrants(room_join=True, room=joining.room, can_publish=False, can_publish_data=False)

    def authorise_publish(self, publishing: Publishing) -> None:
        if publishing.source.startswith("screen_share") and publishing.identity != "ann":
            raise Refused("only ann shares her screen here")

    def quota(self, api_key: str) -> Quota:
        return Quota(participants=100, bytes=50 * 1000**3, period=24 * 3600)

    def used(self, usage: Usage) -> None:
        """Every 5 s for each session, and once more when it ends."""
        self.bill[usage.api_key] = self.bill.get(usage.api_key, 0) + usage.bytes_in + usage.bytes_out

    async def _guests_of(self, room: str) -> set[str] | None:
        await asyncio.sleep(0)  # a query, in a real application
        return self.guests.get(room)


async def main() -> None:
    async with RoomServer(ServerConfig.dev(), rules=HouseRules()) as server:
        print(f"{server.url} is ready")
        await server.failed()


if __name__ == "__main__":
    asyncio.run(main())
