"""A job as its code sees it: the request that offers it, the context it runs in, the process it runs in."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from livekit.protocol import agent, models, room as room_proto

from greenroom.tasks import Tasks

from .tracebacks import failure_in_full, failure_in_words, users_traceback

if TYPE_CHECKING:
    from greenroom import rtc
    from greenroom.api import LiveKitAPI

    from .captions import Captions
    from .transcriber import TranscriptionEvent

logger = logging.getLogger("greenroom.agents")


CLOSE_TIMEOUT = 5.0
"""Seconds to leave the room at a job's end; its process ends then anyway."""
CANCEL_TIMEOUT = 1.0
"""Seconds a shutdown callback, or a task that one has left behind, has to obey being cancelled."""


class AutoSubscribe(StrEnum):
    """Which tracks a job receives without asking."""

    SUBSCRIBE_ALL = "subscribe_all"
    SUBSCRIBE_NONE = "subscribe_none"
    AUDIO_ONLY = "audio_only"
    VIDEO_ONLY = "video_only"


class JobProcess:
    """The process of a job. `userdata` is what `prewarm_fnc` put there before the fork."""

    def __init__(self) -> None:
        self.userdata: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        return os.getpid()


@dataclass(frozen=True, slots=True)
class JobAcceptArguments:
    """How the agent appears in the room."""

    name: str = ""
    identity: str = ""
    metadata: str = ""
    attributes: dict[str, str] = field(default_factory=dict)


class JobRequest:
    """An offered job. `request_fnc` answers it with `accept` or `reject`; no answer counts as a refusal."""

    def __init__(self, job: agent.Job) -> None:
        self.job = job
        self.answer: JobAcceptArguments | None = None
        self.rejected = False
        self.terminate = False

    def __repr__(self) -> str:
        state = "accepted" if self.answer else "rejected" if self.rejected else "not answered"
        return f"<JobRequest {self.id} for agent {self.agent_name!r} in room {self.room.name!r}, {state}>"

    @property
    def id(self) -> str:
        return self.job.id

    @property
    def room(self) -> models.Room:
        return self.job.room

    @property
    def publisher(self) -> models.ParticipantInfo | None:
        """The participant that the job is about, for jobs of type PUBLISHER and PARTICIPANT."""
        return self.job.participant if self.job.HasField("participant") else None

    @property
    def agent_name(self) -> str:
        return self.job.agent_name

    async def accept(
        self, *, name: str = "", identity: str = "", metadata: str = "", attributes: dict[str, str] | None = None
    ) -> None:
        """Take the job. `identity` defaults to `agent-<job id>`. RuntimeError when it was answered before."""
        self._unanswered()
        self.answer = JobAcceptArguments(name, identity or f"agent-{self.id}", metadata, dict(attributes or {}))

    async def reject(self, *, terminate: bool = False) -> None:
        """Leave the job to others; with `terminate` nobody else is asked either."""
        self._unanswered()
        self.rejected, self.terminate = True, terminate

    def _unanswered(self) -> None:
        if self.answer is not None or self.rejected:
            raise RuntimeError(f"the job request {self.id} was already answered")


@dataclass(frozen=True, slots=True)
class RunningJob:
    """What a job process is started with."""

    job: agent.Job
    url: str
    token: str
    worker_id: str
    accepted: JobAcceptArguments
    api_key: str = ""
    api_secret: str = ""


ParticipantEntrypoint = Callable[["JobContext", "rtc.RemoteParticipant"], Awaitable[None]]


class JobContext:
    """The entrypoint's view of its job: the room to join, and the job's life."""

    def __init__(
        self,
        running: RunningJob,
        process: JobProcess,
        room: rtc.Room,
        on_raised: Callable[[str], None] = lambda error: None,
    ) -> None:
        """`on_raised`: called once, in one line, with the first error of the app's while the job goes on."""
        self._running = running
        self._process = process
        self._room = room
        self._callbacks: list[Callable[..., Any]] = []
        self._participant_entrypoints: list[ParticipantEntrypoint] = []
        self._present: dict[str, rtc.RemoteParticipant] | None = None
        """By sid, whom the entrypoints were run for. None before the room is joined: who comes meanwhile is found then."""
        self._tasks = Tasks(logger, on_error=lambda task, error: self.raised(task.get_name(), error))
        self._on_raised: Callable[[str], None] | None = on_raised
        self._exiting = False
        self._failure: BaseException | None = None
        self._captions: Captions | None = None
        self._ended = asyncio.get_running_loop().create_future()
        self._api: LiveKitAPI | None = None
        self._auto_subscribe = AutoSubscribe.SUBSCRIBE_ALL
        room.on("disconnected", self._on_disconnected)
        room.on("participant_connected", self._on_participant)
        room.on("participant_disconnected", self._on_participant_gone)
        room.on("track_published", self._on_track_published)

    # --- what it is about ---------------------------------------------------------------------------------------------
    @property
    def room(self) -> rtc.Room:
        return self._room

    @property
    def job(self) -> agent.Job:
        return self._running.job

    @property
    def proc(self) -> JobProcess:
        return self._process

    @property
    def agent(self) -> rtc.LocalParticipant:
        """The agent's own participant: `room.local_participant`."""
        return self._room.local_participant

    @property
    def worker_id(self) -> str:
        return self._running.worker_id

    @property
    def local_participant_identity(self) -> str:
        return self._running.accepted.identity

    @property
    def api(self) -> LiveKitAPI:
        """A client of the server's API, with the worker's keys."""
        if self._api is None:
            from greenroom.api import LiveKitAPI

            self._api = LiveKitAPI(self._running.url, self._running.api_key, self._running.api_secret)
        return self._api

    # --- joining ------------------------------------------------------------------------------------------------------
    async def connect(
        self, *, auto_subscribe: AutoSubscribe | str = AutoSubscribe.SUBSCRIBE_ALL, rtc_config: Any = None
    ) -> None:
        """Join the room. Returns when the participant is connected. Raises `rtc.ConnectError`."""
        from greenroom import rtc

        self._auto_subscribe = AutoSubscribe(auto_subscribe)
        options = rtc.RoomOptions(
            auto_subscribe=self._auto_subscribe is AutoSubscribe.SUBSCRIBE_ALL, rtc_config=rtc_config
        )
        await self._room.connect(self._running.url, self._running.token, options)
        if self._present is None:
            self._present = {}
        for participant in list(self._room.remote_participants.values()):
            self._on_participant(participant)
            for publication in participant.track_publications.values():
                self._on_track_published(publication, participant)

    async def wait_for_participant(self, *, identity: str | None = None, kind: Any = None) -> rtc.RemoteParticipant:
        """The first participant that is no agent (or the one named, or of that kind), now or when it comes.

        RuntimeError when the room ends first.
        """
        found: asyncio.Future[rtc.RemoteParticipant] = asyncio.get_running_loop().create_future()

        def look(participant: rtc.RemoteParticipant) -> None:
            if not found.done() and _matches(participant, identity, kind):
                found.set_result(participant)

        self._room.on("participant_connected", look)
        try:
            for participant in list(self._room.remote_participants.values()):
                look(participant)
            await asyncio.wait((found, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if not found.done():
                raise RuntimeError("the room ended while the job waited for a participant")
            return found.result()
        finally:
            self._room.off("participant_connected", look)
            found.cancel()

    def add_participant_entrypoint(self, entrypoint_fnc: ParticipantEntrypoint, *, kind: Any = None) -> None:
        """Run `entrypoint_fnc(ctx, participant)` as a task, once for every participant that is no agent.

        Those already there included, whenever it is added.
        """

        async def guarded(ctx: JobContext, participant: rtc.RemoteParticipant) -> None:
            if _matches(participant, None, kind):
                await entrypoint_fnc(ctx, participant)

        self._participant_entrypoints.append(guarded)
        for participant in list((self._present or {}).values()):
            self.spawn(guarded(self, participant), f"participant {participant.identity}")

    # --- ending -------------------------------------------------------------------------------------------------------
    def add_shutdown_callback(self, callback: Callable[..., Any]) -> None:
        """Run `callback()` or `callback(reason)`, plain or async, after the job has ended and before its process goes."""
        self._callbacks.append(callback)

    def shutdown(self, reason: str = "") -> None:
        """End the job: leave the room and exit the process. The job counts as a success."""
        self._end(reason or "shut down by the job")

    def fail(self, error: BaseException) -> None:
        """End the job as `shutdown` does, but as a failure with this error, as if the entrypoint had raised it."""
        if not self._ended.done():
            self._failure = error
            self._end(failure_in_words(error))

    @property
    def failure(self) -> BaseException | None:
        """What the job was ended with by `fail`."""
        return self._failure

    def raised(self, what: str, error: BaseException) -> None:
        """`what` of the app's (a hook, a task, a handler) raised, and the job goes on: the log has it, the server hears of the
        first. `sys.exit()` ends the job: as a success without a code or with 0, else as a failure.
        """
        if isinstance(error, SystemExit):
            self._exited(what, error)
            return
        logger.error("%s failed:%s", what, failure_in_full(error))
        tell, self._on_raised = self._on_raised, None
        if tell is not None:
            tell(f"{what}: {failure_in_words(error)}")

    def _exited(self, what: str, error: SystemExit) -> None:
        if self._exiting:  # it is told by all that it passes through, and may be called again
            return
        self._exiting = True
        if error.code in (None, 0):
            self.shutdown(f"{what} called sys.exit()")
        elif self._ended.done():
            logger.error("%s failed:\n%s", what, users_traceback(error))
        else:
            failure = RuntimeError(f"{what} called sys.exit({error.code!r})")
            failure.__cause__ = error
            self.fail(failure)

    async def delete_room(self) -> None:
        """End the room for everyone."""
        await self.api.room.delete_room(room_proto.DeleteRoomRequest(room=self.job.room.name))

    async def ended(self) -> str:
        """Wait for the job's end. Returns the reason."""
        return await asyncio.shield(self._ended)

    def spawn(self, coroutine: Awaitable[Any], name: str) -> asyncio.Task[Any]:
        """A task that belongs to the job: its failure is logged, and it is cancelled when the job ends."""
        return self._tasks.start(coroutine, name)

    async def close(self, reason: str, timeout: float) -> None:
        """Cancel the job's tasks, run the callbacks, leave the room. For the job's process; twice is fine.

        `timeout`: seconds for the tasks, and again for all callbacks together.
        """
        self._end(reason)
        for task in self._tasks:  # the callbacks may start new ones
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=timeout)
        callbacks, self._callbacks = self._callbacks, []
        deadline = asyncio.get_running_loop().time() + timeout
        for callback in callbacks:
            await self._run_callback(callback, reason, deadline - asyncio.get_running_loop().time())
        if self._captions is not None:
            await self._captions.aclose()
        await self._leave(self._room.disconnect(), "the room")
        if self._api is not None:
            await self._leave(self._api.aclose(), "the API client")
        await self._tasks.aclose(CANCEL_TIMEOUT)

    async def _run_callback(self, callback: Callable[..., Any], reason: str, seconds: float) -> None:
        name = getattr(callback, "__qualname__", repr(callback))
        try:
            result = callback(reason) if inspect.signature(callback).parameters else callback()
            if not inspect.isawaitable(result):
                return
            # A task of its own: a callback that is cancelled from within must not look like the job being cancelled.
            task = asyncio.ensure_future(result)
            if (await asyncio.wait((task,), timeout=max(0.0, seconds)))[1]:
                task.cancel()
                await asyncio.wait((task,), timeout=CANCEL_TIMEOUT)
                logger.error("the shutdown callback %s took longer than shutdown_process_timeout allows", name)
            else:
                task.result()
        except (Exception, asyncio.CancelledError, SystemExit) as error:
            logger.error("the shutdown callback %s failed:\n%s", name, users_traceback(error))

    async def _leave(self, closing: Awaitable[None], what: str) -> None:
        try:
            await asyncio.wait_for(closing, CLOSE_TIMEOUT)
        except TimeoutError:
            logger.warning("%s did not close within %g s", what, CLOSE_TIMEOUT)

    # --- what it hears ------------------------------------------------------------------------------------------------
    def heard(self, track: Any, event: TranscriptionEvent) -> None:
        """Show in the room, as a caption, what a `Transcriber` hears on a participant's track."""
        from .captions import Captions

        sid = getattr(track, "sid", "")
        people = self._room.remote_participants.values()
        speaker = next((person for person in people if sid in person.track_publications), None)
        if speaker is None or not self.agent.permissions.can_publish_data:
            return
        if self._captions is None:
            self._captions = Captions(self._room)
        self._captions.heard(event, speaker.identity, sid)

    # --- inside -------------------------------------------------------------------------------------------------------
    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    def _on_disconnected(self, reason: Any = None) -> None:
        self._end(
            f"the room ended ({models.DisconnectReason.Name(int(reason))})" if reason is not None else "the room ended"
        )

    def _on_participant(self, participant: rtc.RemoteParticipant) -> None:
        if self._present is None or participant.sid in self._present:
            return
        self._present[participant.sid] = participant
        for entrypoint in self._participant_entrypoints:
            self.spawn(entrypoint(self, participant), f"participant {participant.identity}")

    def _on_participant_gone(self, participant: rtc.RemoteParticipant) -> None:
        if self._present is not None:
            self._present.pop(participant.sid, None)

    def _on_track_published(self, publication: rtc.RemoteTrackPublication, _participant: rtc.RemoteParticipant) -> None:
        from greenroom import rtc

        wanted = {
            AutoSubscribe.AUDIO_ONLY: rtc.TrackKind.KIND_AUDIO,
            AutoSubscribe.VIDEO_ONLY: rtc.TrackKind.KIND_VIDEO,
        }
        if wanted.get(self._auto_subscribe) == publication.kind:
            publication.set_subscribed(True)


def _matches(participant: rtc.RemoteParticipant, identity: str | None, kind: Any) -> bool:
    if identity is not None:
        return participant.identity == identity
    if kind is not None:
        kinds = kind if isinstance(kind, list | tuple | set) else [kind]
        return int(participant.kind) in kinds
    return int(participant.kind) not in (models.ParticipantInfo.AGENT, models.ParticipantInfo.EGRESS)
