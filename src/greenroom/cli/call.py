"""`greenroom call`: a synthetic spoken call, printed as it happens."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from greenroom.agents.caller import AgentFailure, Call, CallEvent, CallOptions, CallResult, ExitCode, Line, Recording
from greenroom.agents.caller.jobs import job_failure
from greenroom.agents.speech.protocols import ProviderError
from greenroom.cli.transcript import CallPrinter
from greenroom.logs import configure_logging

__all__ = ["call", "call_and_print"]


def call(
    say: Annotated[list[str] | None, typer.Option(help="Say this, and wait for the answer. Repeatable.")] = None,
    wav: Annotated[list[Path] | None, typer.Option(help="Play this WAV file instead. Repeatable.")] = None,
    more: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="More to say, after --say.")] = None,
    room: Annotated[str, typer.Option(help="Room to join; a new one when not given.")] = "",
    identity: Annotated[str, typer.Option(help="Identity to join with.")] = "caller",
    agent: Annotated[
        str, typer.Option(help="Ask for this agent by name, for agents that are dispatched explicitly.")
    ] = "",
    url: Annotated[str, typer.Option(envvar="LIVEKIT_URL", help="The server.")] = "ws://localhost:7880",
    api_key: Annotated[str, typer.Option(envvar="LIVEKIT_API_KEY", help="To make the token with.")] = "devkey",
    api_secret: Annotated[str, typer.Option(envvar="LIVEKIT_API_SECRET", show_default="development")] = "secret",
    token: Annotated[str, typer.Option(help="Join with this token instead of making one.")] = "",
    voice: Annotated[
        str, typer.Option(help="The caller's voice: kokoro, af_heart, piper-joe, slt ...; see docs/voices.md.")
    ] = "",
    recognise: Annotated[bool, typer.Option(help="Recognise the agent's speech, besides reading its captions.")] = True,
    answer_timeout: Annotated[float, typer.Option(metavar="SECONDS", help="To the first sound of an answer.")] = 12.0,
    agent_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Until an agent is there and listens.")
    ] = 30.0,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Record the call as WAV: the caller left, the agent right.")
    ] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object per event and line.")] = False,
) -> None:
    """Place a synthetic call: join as a real participant, speak, listen, print who said what and how long it took.

    Exit codes: 0 every line was understood and answered, or heard by an agent that does not speak; 1 the agent failed, or
    something in it raised; 2 wrong usage; 3 nobody answered; 4 not understood; 5 no connection, or the call was cut; 6 a speech provider is missing or failed here.
    """
    lines = [*(Line(text) for text in (*(say or ()), *(more or ()))), *(Line(wav=path) for path in wav or ())]
    errors = Console(stderr=True, highlight=False)
    if not lines:
        errors.print("greenroom call: nothing to say; use --say TEXT or --wav FILE", style="red", markup=False)
        raise typer.Exit(ExitCode.USAGE)
    for line in lines:
        if line.wav is None and not any(character.isalnum() for character in line.text):
            errors.print("greenroom call: there is a --say without words", style="red", markup=False)
            raise typer.Exit(ExitCode.USAGE)
        if line.wav is not None and not line.wav.is_file():
            errors.print(f"greenroom call: no such file: {line.wav}", style="red", markup=False)
            raise typer.Exit(ExitCode.USAGE)
    configure_logging("warning")
    code = asyncio.run(
        call_and_print(
            Console(highlight=False),
            url=url,
            api_key=api_key,
            api_secret=api_secret,
            say=lines,
            room=room,
            identity=identity,
            agent=agent,
            token=token,
            voice=voice,
            recognise=recognise,
            record=record,
            json_lines=json_lines,
            options=CallOptions(agent_timeout=agent_timeout, answer_timeout=answer_timeout),
        )
    )
    raise typer.Exit(code)


async def call_and_print(
    console: Console,
    *,
    url: str,
    api_key: str = "",
    api_secret: str = "",
    say: list[str] | list[Line],
    room: str = "",
    identity: str = "caller",
    agent: str = "",
    token: str = "",
    voice: str = "",
    recognise: bool = True,
    record: Path | None = None,
    json_lines: bool = False,
    options: CallOptions | None = None,
    agent_failed: Awaitable[AgentFailure] | None = None,
) -> int:
    """Place the call, print it, return the exit code of `ExitCode`.

    `agent_failed`: see `Call`. Without it the server is asked, when there is a key to ask it with.
    """
    printer = CallPrinter(console)
    show = _print_json if json_lines else printer.show
    lines = [line if isinstance(line, Line) else Line(line) for line in say]
    try:
        tts, stt = _providers(voice, recognise)
        if own_token := not token:
            name = room or f"call-{secrets.token_hex(3)}"
            token = _token(api_key, api_secret, identity, name, agent)
        recording = _recording(record)
    except (ProviderError, ValueError) as error:
        code = ExitCode.NO_SPEECH if isinstance(error, ProviderError) else ExitCode.USAGE
        show(CallEvent("error", 0.0, str(error)))
        show(CallEvent("end", 0.0, values={"exit_code": int(code), "result": code.name.lower()}))
        return int(code)
    if own_token and agent_failed is None:
        agent_failed = job_failure(url, api_key, api_secret, name, new_room=not room)
    with printer:
        call = Call(
            _websocket(url),
            token,
            lines,
            tts=tts,
            stt=stt,
            on_event=show,
            options=options,
            agent_failed=agent_failed,
            recording=recording,
        )
        try:
            result: CallResult = await call.run()
        finally:
            if recording is not None:
                await asyncio.to_thread(recording.close)
    return int(result.exit_code)


def _providers(voice: str, recognise: bool) -> tuple[Any, Any]:
    from greenroom.plugins.defaults import caller_tts, default_stt

    tts = caller_tts(voice)
    tts.load()
    return tts, default_stt() if recognise else None


def _recording(record: Path | None) -> Recording | None:
    try:
        return None if record is None else Recording(record)
    except OSError as error:
        raise ValueError(f"the call cannot be recorded in {record}: {error.strerror or error}") from None


def _token(api_key: str, api_secret: str, identity: str, room: str, agent: str) -> str:
    from livekit.protocol.agent_dispatch import RoomAgentDispatch
    from livekit.protocol.room import RoomConfiguration

    from greenroom.api import AccessToken, VideoGrants

    builder = AccessToken(api_key, api_secret).with_identity(identity).with_name(identity)
    builder = builder.with_grants(VideoGrants(room_join=True, room=room))
    if agent:
        builder = builder.with_room_config(RoomConfiguration(agents=[RoomAgentDispatch(agent_name=agent)]))
    return builder.to_jwt()


def _websocket(url: str) -> str:
    return url.replace("http", "ws", 1) if url.startswith("http") else url


def _print_json(event: CallEvent) -> None:
    sys.stdout.write(json.dumps(event.as_json()) + "\n")
    sys.stdout.flush()
