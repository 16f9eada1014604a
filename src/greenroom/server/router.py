"""Where rooms live, and how they are reached there: the one seam between a server that is alone and a cluster of them.

A room lives on one node. What arrives at a node, a join or an API call, is carried to the node of its room, and that node
decides about it alone and without asking again: its rooms, its rules, its limits. So the code that serves rooms knows nothing
of other nodes, and a router knows nothing of signalling or of the API. It finds nodes and carries things to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from .rules import Refused

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from .arrival import Arrival
    from .auth import Auth
    from .connection import SignalSocket
    from .node import LocalNode

__all__ = ["Admitted", "LocalRouter", "Node", "Router", "Unreachable"]


class Unreachable(Refused):
    """A node, or what finds nodes, does not answer: 503 to a join, `unavailable` to an API call, with this text."""

    def __init__(self, text: str) -> None:
        super().__init__(text, 503)


class Admitted(Protocol):
    """A join that the room's node has let in and whose socket is about to be opened. The session may have begun already."""

    async def serve(self, socket: SignalSocket) -> None:
        """Carry the session until it or the socket ends. `socket` is closed then, as the client is to see it closed.

        A relay to another node carries text, binary, ping and pong frames in order both ways, slows down who sends more than
        the other end reads, and closes one end with the code and the text of the other. When the node is lost it closes
        the socket without a farewell, with a code that is not 1000: the client then resumes, by whichever node it reaches."""

    async def aclose(self) -> None:
        """It is not served after all, or no more. Twice is fine."""


class Node(Protocol):
    """A server of the cluster: this one (`LocalNode`), or another as a router reaches it."""

    @property
    def id(self) -> str:
        """`ND_...`, as clients see it in `ServerInfo`."""

    async def check(self, arrival: Arrival) -> None:
        """May it come in? Nothing happens in the room. Raises Refused with the node's own status and text, or Unreachable."""

    async def admit(self, arrival: Arrival) -> Admitted:
        """Let it in. Raises as `check`."""

    async def call(self, auth: Auth, service: str, method: str, request: Message) -> Message:
        """Answer an API call there. Raises TwirpError as the node did, or Unreachable."""


class Router(Protocol):
    """Given to `RoomServer`. All that may fail raises Unreachable, and does so within the time that its caller gives it
    (`signal.ROUTE_SECONDS`, Twirp's limit): being cancelled must leave nothing behind."""

    async def start(self, here: LocalNode) -> None:
        """Before anything arrives. `here` tells which rooms come and go (`here.rooms.on`), which workers do
        (`here.workers`), and takes what other nodes carry here (`here.admit`, `here.call`)."""

    @property
    def ready(self) -> bool:
        """Whether joins and calls can be carried now: `/` tells load balancers."""

    async def locate(self, room: str) -> Node:
        """Where a room lives; this node for one that lives nowhere, as which it then is told."""

    async def place(self, room: str) -> Node:
        """As `locate`, but a room that lives nowhere gets its place: whoever else asks is told the same. The room is not
        there yet, and perhaps never will be (its node may refuse): without `room_started` the choice lapses."""

    async def nodes(self) -> Sequence[Node]:
        """All that are in service, this one among them."""

    def drain(self) -> None:
        """This node is about to stop: no more rooms are placed on it. Twice is fine, and before `start`."""

    async def close(self) -> None:
        """After all rooms are closed, and all sockets. Twice is fine, and after a start that failed or never was."""


class LocalRouter:
    """One server is all there is, and every room is here. Nothing that is awaited here gives up the turn, so joins and calls
    are in the order in which they came."""

    ready = True

    def __init__(self) -> None:
        self._here: Node | None = None

    async def start(self, here: Node) -> None:
        self._here = here

    @property
    def here(self) -> Node:
        assert self._here is not None, "the router is not started"
        return self._here

    async def locate(self, room: str) -> Node:
        return self.here

    async def place(self, room: str) -> Node:
        return self.here

    async def nodes(self) -> Sequence[Node]:
        return (self.here,)

    def drain(self) -> None:
        """There is no other place."""

    async def close(self) -> None:
        """Nothing is held."""
