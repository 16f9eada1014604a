"""The `greenroom` command: names the subcommands and imports only the one that runs."""

from __future__ import annotations

import importlib
import signal
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from greenroom import __version__

__all__ = ["app", "main"]


class Entry(NamedTuple):
    module: str
    """Module of this package."""
    attribute: str
    """A command function in it, or a `typer.Typer` with subcommands."""
    help: str


COMMANDS = {
    "dev": Entry("dev", "dev", "Run an agent file with a server and a web page to talk to it. Reloads on change."),
    "server": Entry("server", "server", "Run the room server."),
    "call": Entry("call", "call", "Place a synthetic spoken call and print what it heard back."),
    "transcribe": Entry("transcribe", "transcribe", "Write down what is said in WAV files, with times."),
    "speak": Entry("speak", "speak", "Speak a text into a WAV file."),
    "token": Entry("token", "app", "Make access tokens."),
    "models": Entry("models", "app", "Fetch, list and check the models that hear and speak."),
    "doctor": Entry("doctor", "doctor", "Check this machine: what is there, what is missing, what that costs."),
}


class Lazy(TyperCommand):
    """Stands in the help for a command, whose module is imported when it runs: the imports take longer than the help."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name, help=entry.help)
        self._entry = entry

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        module = importlib.import_module(f"greenroom.cli.{self._entry.module}")
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # as commands expect it: see `entry`
        target = getattr(module, self._entry.attribute)
        if not isinstance(target, typer.Typer):
            function, target = target, typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            target.command(self.name)(function)
        return typer.main.get_command(target).make_context(info_name, args, parent=parent, **extra)


class Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = COMMANDS.get(cmd_name)
        return Lazy(cmd_name, entry) if entry else None


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"greenroom {__version__}")
        raise typer.Exit()


@app.callback()
def greenroom(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Software participants in calls: a room server, agents that hear, see and speak, and the tools around them.

    Start with: greenroom dev my_agent.py
    """


def main() -> None:
    app(prog_name="greenroom")
