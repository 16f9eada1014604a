"""What a job says last is heard: its end does not overtake it."""

from __future__ import annotations

import asyncio

from livekit.protocol import agent

from greenroom import rtc
from tests.conftest import token, until

APP = """
from greenroom.agents import WorkerOptions, cli

async def entrypoint(ctx):
    await ctx.connect()
    async def bye(invocation):
        await ctx.agent.send_text("farewell", topic="bye")
        ctx.shutdown("the user said goodbye")
        return "good night"
    ctx.agent.register_rpc_method("bye", bye)

if __name__ == "__main__":
    cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint))
"""
ROOMS = 6
"""The two ways race, so once proves little."""


async def test_the_call_that_ends_a_job_is_answered(room_server, start_worker, tmp_path):
    app = tmp_path / "app.py"
    app.write_text(APP)
    await start_worker(app)
    for number in range(ROOMS):
        name, user = f"room{number}", rtc.Room()
        texts: list[str] = []
        reading: list[asyncio.Task] = []

        async def read(reader, texts=texts) -> None:
            texts.append(await reader.read_all())

        user.register_text_stream_handler(
            "bye", lambda reader, _, read=read, reading=reading: reading.append(asyncio.create_task(read(reader)))
        )
        await user.connect(room_server.url, token("user", name))
        try:
            [helper] = await until(lambda user=user: list(user.remote_participants), "the agent comes", 20)
            answer = await ask(user, helper)
            assert answer == "good night"
            await until(lambda texts=texts: texts == ["farewell"], "the text arrives", 5)
            await until(lambda name=name: states(room_server, name) == [agent.JS_SUCCESS], "the job ends well", 10)
        finally:
            await user.disconnect()


def states(server, room: str) -> list[int]:
    return [job.state.status for dispatch in server.dispatcher.listed(room) for job in dispatch.state.jobs]


async def ask(user: rtc.Room, helper: str) -> str:
    """Call `bye`, as soon as the agent has registered it."""
    for _ in range(50):
        try:
            return await user.local_participant.perform_rpc(destination_identity=helper, method="bye", payload="")
        except rtc.RpcError as error:
            if error.code != rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD:
                raise
            await asyncio.sleep(0.1)
    raise AssertionError("the agent never takes the call")
