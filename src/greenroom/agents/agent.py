"""`Agent`: a participant as a class with hooks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .job import JobContext, JobProcess, JobRequest
from .options import AutoSubscribe

if TYPE_CHECKING:
    from greenroom import rtc


class Agent:
    """Subclass it and override what you need; hooks may be plain or `async`.

    An async hook runs as a task that belongs to the job: its failure is logged, other tracks notice nothing, and it is
    cancelled when the job ends. Only tracks that `should_process` are subscribed to.

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
        """Join the job's room and serve the hooks. Returns when the agent is in the room and `on_start` is done."""
        self.ctx = ctx
        room = ctx.room
        room.on("track_published", self._published)
        room.on("track_subscribed", self._subscribed)
        room.on("participant_connected", self._arrived)
        ctx.add_shutdown_callback(self.on_stop)
        await ctx.connect(auto_subscribe=AutoSubscribe.SUBSCRIBE_NONE)
        started = self.on_start()
        if inspect.isawaitable(started):
            await started
        for participant in list(room.remote_participants.values()):
            self._arrived(participant)
            for publication in list(participant.track_publications.values()):
                self._published(publication, participant)

    def _arrived(self, participant: rtc.RemoteParticipant) -> None:
        self._call(self.on_participant, participant)

    def _published(self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
        if self.should_process(publication, participant):
            publication.set_subscribed(True)

    def _subscribed(
        self, track: rtc.RemoteTrack, _publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        from greenroom import rtc

        audio = track.kind == rtc.TrackKind.KIND_AUDIO
        self._call(self.on_audio_track if audio else self.on_video_track, track, participant)

    def _call(self, hook: Callable[..., Any], *arguments: Any) -> None:
        result = hook(*arguments)
        if inspect.isawaitable(result):
            self.ctx.spawn(result, f"{type(self).__name__}.{hook.__name__}")


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
