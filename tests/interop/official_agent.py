"""An app for the official `livekit-agents` package. Run by `test_official_agents_worker.py`, with that package's Python."""

from livekit.agents import JobContext, WorkerOptions, cli


async def entrypoint(ctx: JobContext) -> None:
    await ctx.connect()
    await ctx.room.local_participant.set_attributes({"greeting": f"hello {ctx.job.metadata}"})


if __name__ == "__main__":
    cli.run_app(
        WorkerOptions(
            entrypoint_fnc=entrypoint,
            agent_name="official",
            load_fnc=lambda: 0.0,  # the machine that runs tests is busy; that must not make it refuse
            num_idle_processes=1,
            port=0,
        )
    )
