"""`Agent`: a participant as a class with hooks."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .job import AutoSubscribe, JobContext, JobProcess, JobRequest

if TYPE_CHECKING:
    from greenroom import rtc


class Agent:
    """Subclass it and override what you need; hooks may be plain or `async`.

    An async hook runs as a task that belongs to the job and is cancelled when the job ends. What raises before the agent is
    in its room (`__init__`, `on_start`) fails the job. After that a hook that raises is named in the log, plain or async
    alike, and the call goes on; `sys.exit()` ends the job. No hook is called before `on_start` is done. Only tracks that `should_process` are subscribed to.

        class Transcription(Agent):
            def should_process(self, publication, participant):
                return publication.kind == rtc.TrackKind.KIND_AUDIO

            def on_audio_track(self, track, participant): ...
    """

    agent_name: str = ""
    """Empty: dispatched into every new room. Named: by explicit dispatch only."""

    display_name: str = ""
    """The participant's name, as others in the room see it."""

    ctx: JobContext

    @classmethod
    def prewarm(cls, process: JobProcess) -> None:
        """Load models here, once, before any job process is forked."""

    def on_start(self) -> Any:
        """The room is connected: `self.ctx`, `self.room` and `self.participant` are there."""

    def should_process(self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> bool:
        """Whether to receive this track. Default: every one that has a hook of its kind."""
        from greenroom import rtc

        hook = "on_audio_track" if publication.kind == rtc.TrackKind.KIND_AUDIO else "on_video_track"
        return getattr(type(self), hook) is not getattr(Agent, hook)

    def on_participant(self, participant: rtc.RemoteParticipant) -> Any:
        """Somebody is in the room: once for each, those already there included."""

    def on_audio_track(self, track: rtc.RemoteAudioTrack, participant: rtc.RemoteParticipant) -> Any:
        """An audio track arrives that `should_process` asked for."""

    def on_video_track(self, track: rtc.RemoteVideoTrack, participant: rtc.RemoteParticipant) -> Any:
        """A video track arrives that `should_process` asked for."""

    def on_stop(self) -> Any:
        """The job ends; the room may be gone already."""

    @property
    def room(self) -> rtc.Room:
        return self.ctx.room

    @property
    def participant(self) -> rtc.LocalParticipant:
        """The agent's own participant."""
        return self.ctx.room.local_participant

    async def start(self, ctx: JobContext) -> None:
        """Join the job's room and serve the hooks. Returns when the agent is in the room and `on_start` is done.

        Raises what `on_start` raises, and `rtc.ConnectError`.
        """
        self.ctx = ctx
        self._early: list[tuple[rtc.RemoteTrack, rtc.RemoteParticipant]] | None = []
        self._greeted: set[str] = set()
        room = ctx.room
        room.on("track_published", self._published)
        room.on("track_subscribed", self._subscribed)
        room.on("participant_connected", self._arrived)
        room.on("participant_disconnected", lambda participant: self._greeted.discard(participant.sid))
        ctx.add_shutdown_callback(self._stopped)
        await ctx.connect(auto_subscribe=AutoSubscribe.SUBSCRIBE_NONE)
        started = self.on_start()
        if inspect.isawaitable(started):
            await started
        # Whoever came during `on_start` is in the room by now, so nobody is told twice and nobody before it is done.
        early, self._early = self._early, None
        for participant in list(room.remote_participants.values()):
            self._arrived(participant)
            for publication in list(participant.track_publications.values()):
                self._published(publication, participant)
        for track, participant in early or ():
            self._deliver(track, participant)

    def _arrived(self, participant: rtc.RemoteParticipant) -> None:
        if self._early is None and participant.sid not in self._greeted:
            self._greeted.add(participant.sid)
            self._call(self.on_participant, participant)

    def _published(self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
        if self._early is None and self._call(self.should_process, publication, participant):
            publication.set_subscribed(True)

    def _subscribed(
        self, track: rtc.RemoteTrack, _publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if self._early is not None:
            self._early.append((track, participant))
        else:
            self._deliver(track, participant)

    def _deliver(self, track: rtc.RemoteTrack, participant: rtc.RemoteParticipant) -> None:
        from greenroom import rtc

        audio = track.kind == rtc.TrackKind.KIND_AUDIO
        self._call(self.on_audio_track if audio else self.on_video_track, track, participant)

    async def _stopped(self) -> None:
        stopped = self._call(self.on_stop)
        if stopped is not None:
            await asyncio.wait((stopped,))

    def _call(self, hook: Callable[..., Any], *arguments: Any) -> Any:
        """What the hook gives; its task when it is async. One that raises is named in the log, and the call goes on."""
        name = f"{type(self).__name__}.{hook.__name__}"
        try:
            result = hook(*arguments)
        except (Exception, SystemExit) as error:
            self.ctx.raised(name, error)
            return None
        return self.ctx.spawn(result, name) if inspect.isawaitable(result) else result


def entrypoint_of(agent: type[Agent]) -> Callable[[JobContext], Any]:
    """The entrypoint that runs an agent class without arguments."""

    async def entrypoint(ctx: JobContext) -> None:
        await agent().start(ctx)

    entrypoint.__name__ = agent.__name__
    return entrypoint


def request_handler_of(agent: type[Agent]) -> Callable[[JobRequest], Any]:
    """Accepts every job under the agent's name."""

    async def accept(request: JobRequest) -> None:
        await request.accept(name=agent.display_name)

    return accept
