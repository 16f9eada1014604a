"""A synthetic call: a real participant joins, says its lines one after the other, and waits for each answer."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from greenroom.agents.caller.ear import Ear
from greenroom.agents.caller.events import AgentFailure, CallEvent, CallResult, ExitCode, TurnResult
from greenroom.agents.caller.recording import Recording
from greenroom.agents.caller.script import Line, UnreadableRecording, Utterance, agreement, load_wav, speak
from greenroom.agents.captions import FINAL, SEGMENT, TOPIC as CAPTION_TOPIC
from greenroom.agents.conversation.chat import CHAT_TOPIC
from greenroom.agents.conversation.presence import STATE_ATTRIBUTE, TURN_TOPIC
from greenroom.agents.speech.protocols import STT, TTS, ProviderError
from greenroom.agents.transcriber import EventType, TranscriptionEvent
from greenroom.tasks import Tasks

__all__ = ["Call", "CallOptions"]

logger = logging.getLogger("greenroom.call")

FRAME_MS = 20
SPEECH_QUEUE_MS = 200
SETTLE = 0.4
"""Seconds of silence from the agent after which its answer is over, when it also says that it listens again."""
SETTLE_WITHOUT_STATE = 1.6
"""The same for an agent that publishes no state."""
VOICE_PATIENCE = 4.0
"""Seconds that an agent gets to publish a voice; one without is spoken to all the same."""
STATE_PATIENCE = 0.5
"""Seconds that an agent with a voice gets to say in what state it is: the two travel on different paths."""
HEARD_PATIENCE = 2.0
"""Seconds that an agent without a voice gets to raise one, after the line and its captions: then it only listens."""
MAX_CHAT_CHARACTERS = 4_000
"""Shown of a written message."""
JOB_END_TIMEOUT = 3.0
"""Seconds that a failed job's state may trail its agent's leaving: its process ends in between."""
TEXT_PATIENCE = 4.0
"""Seconds that captions, metrics and the own recogniser may still take when the answer is over."""


@dataclass(frozen=True, slots=True)
class CallOptions:
    agent_timeout: float = 30.0
    """Seconds to wait for an agent that is ready to listen."""
    answer_timeout: float = 12.0
    """Seconds from the end of a line to the first sound of the answer."""
    longest_answer: float = 60.0
    understood_from: float = 0.5
    """`agreement` from which a line counts as understood."""
    connect_timeout: float = 10.0


class Call:
    """`await Call(...).run()` does the whole call and never raises for what can go wrong with it."""

    def __init__(
        self,
        url: str,
        token: str,
        lines: Sequence[Line],
        *,
        tts: TTS,
        stt: STT | None,
        on_event: Callable[[CallEvent], None],
        options: CallOptions | None = None,
        agent_failed: Awaitable[AgentFailure] | None = None,
        recording: Recording | None = None,
    ) -> None:
        """`stt`: recognises what the agent says; None: its captions only. `recording`: takes down both sides; whoever made it
        closes it.

        `agent_failed`: gives what an agent's job failed with, or what was raised in it, which ends the call. It is cancelled at
        the end.
        """
        from greenroom import rtc

        self._url, self._token, self._lines = url, token, list(lines)
        self._tts, self._stt, self._on_event = tts, stt, on_event
        self._options = options or CallOptions()
        self._room = rtc.Room()
        self._ear: Ear | None = None
        self._agent: Any = None
        self._agent_seen = 0.0
        self._agent_changed = asyncio.Event()
        self._over: asyncio.Future[_Stop] = asyncio.get_running_loop().create_future()
        self._agent_failed = agent_failed
        self._recording = recording
        self._failure: asyncio.Future[AgentFailure] | None = None
        self._began = time.monotonic()
        self._turns: list[TurnResult] = []
        self._turn: TurnResult | None = None
        self._captions: dict[str, str] = {}
        self._captioned_at = 0.0
        """When the last caption of the caller's speech came."""
        self._heard: list[str] = []
        self._written = False
        self._texts_changed = asyncio.Event()
        self._tasks = Tasks(logger, on_error=_text_lost)

    async def run(self) -> CallResult:
        result = CallResult(ExitCode.SUCCESS, self._turns)
        if self._agent_failed is not None:
            self._failure = asyncio.ensure_future(self._agent_failed)
            self._failure.add_done_callback(self._on_failure)
        try:
            await self._run(result)
        except _Stop as stop:
            result.exit_code, result.error = await self._reason(stop)
            self._emit("error", result.error)
        except UnreadableRecording as error:
            result.exit_code, result.error = ExitCode.USAGE, str(error)
            self._emit("error", str(error))
        except (ProviderError, ValueError) as error:
            result.exit_code, result.error = ExitCode.NO_SPEECH, str(error)
            self._emit("error", str(error))
        finally:
            await self._close()
        if result.exit_code is ExitCode.SUCCESS and not all(map(self._understood, result.turns)):
            result.exit_code = ExitCode.NOT_UNDERSTOOD
        values = {"exit_code": int(result.exit_code), "result": result.exit_code.name.lower()}
        if any(turn.only_heard for turn in result.turns):
            values["only_heard"] = self._agent.identity
        self._emit("end", values=values)
        return result

    async def _run(self, result: CallResult) -> None:
        # The first line is synthesised before connecting, so that a missing synthesiser costs nobody a call; nor do
        # recordings that cannot be played.
        for line in self._lines:
            if line.wav is not None:
                load_wav(line.wav)
        # All is spoken before the call: a good voice may take longer than the line lasts, and its work would slow down
        # the agent that is measured.
        utterances = [await speak(line, self._tts) for line in self._lines]
        await self._connect()
        await self._wait_for_agent()
        for line, utterance in zip(self._lines, utterances, strict=True):
            turn = TurnResult(str(line))
            result.turns.append(turn)
            await self._take_turn(turn, utterance)
            if not turn.answered and not turn.only_heard:
                why = "; it answers in writing" if self._written else ""
                raise _Stop(ExitCode.NOT_ANSWERED, f"no spoken answer within {self._options.answer_timeout:g} s{why}")

    async def _reason(self, stop: _Stop) -> tuple[ExitCode, str]:
        """What to say of the end: an agent that fails leaves first, and is booked when its process has ended."""
        if self._failure is not None:
            if stop.agent_left:
                await asyncio.wait((self._failure,), timeout=JOB_END_TIMEOUT)
            if (failure := _result(self._failure)) is not None:
                return ExitCode.AGENT_FAILED, f"the agent failed: {failure.error}"
        return stop.code, str(stop)

    # --- joining ------------------------------------------------------------------------------------------------------
    async def _connect(self) -> None:
        from greenroom import rtc

        room = self._room
        room.on("track_subscribed", self._on_track)
        room.on("participant_connected", lambda _: self._agent_changed.set())
        room.on("participant_attributes_changed", self._on_attributes)
        room.on("participant_disconnected", self._on_left)
        room.on("disconnected", self._on_disconnected)
        room.register_text_stream_handler(CAPTION_TOPIC, self._on_caption)
        room.register_text_stream_handler(TURN_TOPIC, self._on_report)
        room.register_text_stream_handler(CHAT_TOPIC, self._on_chat)
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                await room.connect(self._url, self._token)
        except (rtc.ConnectError, TimeoutError, OSError) as error:
            why = str(error) or f"no connection within {self._options.connect_timeout:g} s"
            raise _Stop(ExitCode.NOT_CONNECTED, f"could not join {self._url}: {why}") from None
        identity = room.local_participant.identity
        self._emit("connected", values={"room": room.name, "identity": identity, "ms": self._ms(self._began)})

    async def _publish(self, rate: int) -> Any:
        from greenroom import rtc

        source = rtc.AudioSource(rate, 1, queue_size_ms=SPEECH_QUEUE_MS)
        track = rtc.LocalAudioTrack.create_audio_track("caller-voice", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await self._room.local_participant.publish_track(track, options)
        return source

    def _agents(self, but: str = "") -> list[Any]:
        from greenroom import rtc

        kind = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        return [p for p in self._room.remote_participants.values() if p.kind == kind and p.identity != but]

    async def _wait_for_agent(self) -> None:
        """Publish the microphone, then wait until an agent is there with a voice and says (if it says) that it listens."""
        self._source_rate = 0
        self._source: Any = None
        await self._microphone(self._tts.sample_rate)
        deadline = time.monotonic() + self._options.agent_timeout
        while not self._agent_ready():
            self._agent_changed.clear()
            await self._wait(self._agent_changed, min(0.25, deadline - time.monotonic()))
            if time.monotonic() >= deadline:
                raise _Stop(ExitCode.NOT_ANSWERED, self._why_no_agent())
        listens = True if STATE_ATTRIBUTE in self._agent.attributes else None
        identity = self._agent.identity
        self._emit("agent", values={"identity": identity, "listens": listens, "ms": self._ms(self._began)})

    def _agent_ready(self) -> bool:
        if (agent := next(iter(self._agents()), None)) is not self._agent:
            self._agent, self._agent_seen = agent, time.monotonic()
        if self._agent is None:
            return False
        if (state := self._agent.attributes.get(STATE_ATTRIBUTE)) is not None and self._ear is not None:
            return bool(state == "listening")
        since, patience = self._agent_seen, VOICE_PATIENCE
        if self._ear is not None:
            since, patience = self._ear.since, STATE_PATIENCE
        return state in (None, "listening") and time.monotonic() >= since + patience

    def _why_no_agent(self) -> str:
        waited = f"within {self._options.agent_timeout:g} s"
        if self._agent is None:
            return f"no agent came {waited}: is a worker running?"
        return f"the agent {self._agent.identity} was not ready to listen {waited}"

    async def _microphone(self, rate: int) -> None:
        if self._source_rate != rate:
            if self._source is not None:
                await self._source.aclose()
                for publication in list(self._room.local_participant.track_publications.values()):
                    await self._room.local_participant.unpublish_track(publication.sid)
            self._source, self._source_rate = await self._publish(rate), rate

    # --- one line and its answer --------------------------------------------------------------------------------------
    async def _take_turn(self, turn: TurnResult, utterance: Utterance) -> None:
        self._turn = turn
        self._captions.clear()
        self._heard.clear()
        await self._microphone(utterance.sample_rate)
        self._emit("say", turn.said)
        ended_at = await self._play(utterance)
        answered_at = await self._wait_first(self._wait_audible(turn, ended_at))
        if answered_at is not None:
            assert self._ear is not None
            turn.overlaps = self._ear.overlaps
            if not turn.overlaps:
                turn.latency_ms = self._ms(ended_at, answered_at)
            await self._wait_answer_over()
            await self._wait_texts(turn)
        elif not turn.only_heard:
            return
        turn.answer, turn.heard = " ".join(self._captions.values()), " ".join(self._heard)
        if turn.captioned and utterance.line.text:
            turn.agreement = agreement(utterance.line.text, turn.understood)
        self._emit(
            "turn",
            values={
                "said": turn.said,
                "understood": turn.understood,
                "answer": turn.answer,
                "heard": turn.heard,
                "latency_ms": turn.latency_ms,
                "overlaps": turn.overlaps,
                "agent_ms": turn.agent_ms,
                "agreement": None if turn.agreement is None else round(turn.agreement, 2),
            },
        )
        self._turn = None

    async def _play(self, utterance: Utterance) -> float:
        """Say it. Returns when (`time.monotonic()`) its last audible sample went out."""
        from greenroom import rtc

        frame_bytes = utterance.sample_rate * FRAME_MS // 1000 * 2
        # Let the source's clock start cleanly: silence first, as from a microphone that is open.
        pcm = bytes(frame_bytes * 5) + utterance.pcm
        if self._ear is not None:
            self._ear.listen_from(float("inf"))
        began, said = time.monotonic(), 0
        try:
            for start in range(0, len(pcm), frame_bytes):
                frame = pcm[start : start + frame_bytes].ljust(frame_bytes, b"\0")
                await self._wait_first(
                    self._source.capture_frame(rtc.AudioFrame(frame, utterance.sample_rate, 1, len(frame) // 2))
                )
                if start == 0:
                    began = time.monotonic()
                said = start + frame_bytes
        finally:
            if self._recording is not None:
                self._recording.caller(pcm[:said], utterance.sample_rate, began)
        lead = 5 * FRAME_MS / 1000
        await self._wait_first(self._source.wait_for_playout())
        played = time.monotonic()
        # The clock that empties the source is the truth; the trailing silence of the utterance does not count.
        ended_at = max(began + lead, played - (utterance.duration - utterance.speech_end))
        return ended_at

    async def _wait_audible(self, turn: TurnResult, since: float) -> float | None:
        """When the first sound after `since` was heard, or None: at the latest, and for an agent that only listens."""
        deadline = since + self._options.answer_timeout
        while self._ear is None:
            heard = turn.understood and not self._captions and STATE_ATTRIBUTE not in self._agent.attributes
            if heard and time.monotonic() >= max(since, self._captioned_at) + HEARD_PATIENCE:
                turn.only_heard = True
                return None
            self._agent_changed.clear()
            await self._wait(self._agent_changed, min(0.25, deadline - time.monotonic()))
            if time.monotonic() >= deadline:
                return None
        self._ear.listen_from(since)
        return await self._ear.wait_audible(deadline - time.monotonic())

    async def _wait_answer_over(self) -> None:
        assert self._ear is not None
        deadline = time.monotonic() + self._options.longest_answer
        while time.monotonic() < deadline:
            state = self._agent.attributes.get(STATE_ATTRIBUTE)
            quiet = time.monotonic() - self._ear.last_audible_at
            if quiet > (SETTLE_WITHOUT_STATE if state is None else SETTLE) and state in (None, "listening", "idle"):
                return
            await self._wait(self._agent_changed, 0.05)
            self._agent_changed.clear()

    async def _wait_texts(self, turn: TurnResult) -> None:
        """Give captions, metrics and the recogniser the time they need after the sound."""
        assert self._ear is not None
        deadline = time.monotonic() + TEXT_PATIENCE
        while time.monotonic() < deadline:
            own = self._stt is None or (self._heard and not self._ear.recognising)
            if own and self._captions and (turn.agent_ms or STATE_ATTRIBUTE not in self._agent.attributes):
                return
            self._texts_changed.clear()
            await self._wait(self._texts_changed, min(0.1, deadline - time.monotonic()))

    def _understood(self, turn: TurnResult) -> bool:
        if turn.agreement is None:
            return not turn.captioned or bool(turn.understood)
        return turn.agreement >= self._options.understood_from

    # --- what arrives -------------------------------------------------------------------------------------------------
    def _on_track(self, track: Any, _publication: Any, participant: Any) -> None:
        from greenroom import rtc

        if track.kind != rtc.TrackKind.KIND_AUDIO or self._ear is not None:
            return
        if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
            self._ear = Ear(track, self._stt, self._on_heard, self._recording)
            self._ear.start()
            self._agent_changed.set()

    def _on_attributes(self, changed: dict[str, str], participant: Any) -> None:
        if participant is self._agent and STATE_ATTRIBUTE in changed:
            self._emit("state", changed[STATE_ATTRIBUTE])
        self._agent_changed.set()

    def _on_left(self, participant: Any) -> None:
        if participant is self._agent:
            why = f"the agent {participant.identity} left the call"
            code = ExitCode.NOT_CONNECTED
            if not any(turn.answered or turn.only_heard for turn in self._turns):
                why, code = f"{why} before it answered", ExitCode.NOT_ANSWERED
            self._end(_Stop(code, why, agent_left=True))

    def _on_disconnected(self, reason: Any = None) -> None:
        from greenroom import rtc

        why = "the server ended the call"
        if reason == rtc.DisconnectReason.DUPLICATE_IDENTITY:
            why = "another participant with the same identity took the caller's place; give each its own"
        self._end(_Stop(ExitCode.NOT_CONNECTED, why))

    def _on_failure(self, future: asyncio.Future[AgentFailure]) -> None:
        # Another agent that is there may still answer.
        if (failure := _result(future)) is not None and not self._agents(but=failure.identity):
            self._end(_Stop(ExitCode.AGENT_FAILED, f"the agent failed: {failure.error}"))

    def _on_heard(self, event: TranscriptionEvent) -> None:
        if event.type is EventType.FINAL:
            self._heard.append(event.text)
        if event.type in (EventType.PARTIAL, EventType.FINAL):
            self._emit("heard", event.text, final=event.type is EventType.FINAL, segment=event.segment_id)
        self._texts_changed.set()

    def _on_caption(self, reader: Any, identity: str) -> None:
        self._tasks.start(self._read_caption(reader, identity), "caption")

    async def _read_caption(self, reader: Any, identity: str) -> None:
        mine = identity == self._room.local_participant.identity
        if mine and self._turn is not None:
            self._turn.captioned = True
            self._captioned_at = time.monotonic()
        kind, segment, text = ("understood" if mine else "caption"), reader.info.attributes.get(SEGMENT, ""), ""
        async for piece in reader:
            text += piece
            if not mine:
                self._captions[segment] = text
                self._emit(kind, text, final=False, segment=segment)
        final = reader.info.attributes.get(FINAL) == "true"
        if mine and final and self._turn is not None:
            self._turn.understood = f"{self._turn.understood} {text}".strip()
        if mine or final:
            self._emit(kind, text, final=final, segment=segment)
        self._texts_changed.set()

    def _on_chat(self, reader: Any, identity: str) -> None:
        self._tasks.start(self._read_chat(reader, identity), "chat")

    async def _read_chat(self, reader: Any, identity: str) -> None:
        text = ""
        async for piece in reader:
            text += piece
            if len(text) > MAX_CHAT_CHARACTERS:
                reader.close()
        self._written = True
        self._emit("chat", text[:MAX_CHAT_CHARACTERS], values={"identity": identity})

    def _on_report(self, reader: Any, _identity: str) -> None:
        self._tasks.start(self._read_report(reader), "turn report")

    async def _read_report(self, reader: Any) -> None:
        try:
            report = json.loads(await reader.read_all())
            milliseconds = {str(name): int(value) for name, value in report["ms"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("a turn report was not understood: %s", error)
            return
        if self._turn is not None:
            self._turn.agent_ms = milliseconds
        self._texts_changed.set()

    # --- small things -------------------------------------------------------------------------------------------------
    def _end(self, why: _Stop) -> None:
        if not self._over.done():
            self._over.set_result(why)

    async def _wait_first(self, work: Any) -> Any:
        """The result of `work`, or _Stop when the call ends before."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self._over), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise self._over.result()
            return task.result()
        finally:
            task.cancel()

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        async def bounded() -> None:
            try:
                await asyncio.wait_for(event.wait(), max(0.0, seconds))
            except TimeoutError:
                return

        await self._wait_first(bounded())

    def _emit(
        self, kind: str, text: str = "", *, final: bool = True, segment: str = "", values: dict[str, Any] | None = None
    ) -> None:
        self._on_event(CallEvent(kind, time.monotonic() - self._began, text, final, segment, values or {}))

    @staticmethod
    def _ms(begin: float, end: float | None = None) -> int:
        return round(((time.monotonic() if end is None else end) - begin) * 1000)

    async def _close(self) -> None:
        self._end(_Stop(ExitCode.NOT_CONNECTED, "the caller hung up"))
        if self._failure is not None:
            self._failure.cancel()
            await asyncio.gather(self._failure, return_exceptions=True)
        await self._tasks.aclose()
        if self._ear is not None:
            await self._ear.aclose()
        await self._room.disconnect()


def _text_lost(_task: asyncio.Task[Any], error: BaseException) -> None:
    """A text that breaks off costs the call nothing but itself."""
    logger.warning("a text did not arrive: %s", error)


def _result(failure: asyncio.Future[AgentFailure]) -> AgentFailure | None:
    if not failure.done() or failure.cancelled():
        return None
    if (error := failure.exception()) is not None:
        logger.warning("nobody can tell whether the agent failed: %s", error)
        return None
    return failure.result()


class _Stop(Exception):
    def __init__(self, code: ExitCode, why: str, *, agent_left: bool = False) -> None:
        super().__init__(why)
        self.code = code
        self.agent_left = agent_left
