"""The agent of the dispatch benchmark: joins, and tells when its entrypoint began and when it was connected."""

import time

from greenroom.agents import JobContext, WorkerOptions, cli

AGENT_NAME = "bench-dispatch"


async def entrypoint(ctx: JobContext) -> None:
    entered = time.time()
    await ctx.connect()
    connected = time.time()
    await ctx.agent.set_attributes({"entered": repr(entered), "connected": repr(connected)})
    await ctx.ended()


if __name__ == "__main__":
    cli.run_app(
        WorkerOptions(
            entrypoint_fnc=entrypoint, agent_name=AGENT_NAME, num_idle_processes=4, load_threshold=float("inf")
        )
    )
