"""`greenroom models`: what hears and speaks, fetched once and checked by hash."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from greenroom import models

if TYPE_CHECKING:
    from greenroom.models.sources import Progress as Report

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Fetch, list and check models.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model of `greenroom models list`.", show_default=False)]


@app.callback()
def main(
    context: typer.Context,
    registry: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A TOML file with other models.", show_default=False),
    ] = None,
) -> None:
    """Fetch, list and check the models that hear and speak. They are kept in one folder; GREENROOM_MODELS moves it."""
    context.obj = models.registry(registry)
    try:
        _ = context.obj.models
    except models.RegistryError as error:
        raise typer.BadParameter(str(error)) from error


@app.command("list")
def list_models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """Say which models there are, and which of them are on this machine."""
    registry: models.Registry = context.obj
    there = {name: registry.find(name) for name in registry.models}
    if as_json:
        rows = [
            {
                "name": model.name,
                "kind": model.kind,
                "title": model.title,
                "purpose": model.purpose,
                "language": model.language,
                "licence": model.licence,
                "bytes": model.size,
                "default": model.name in models.DEFAULT,
                "folder": str(there[model.name]) if there[model.name] else None,
            }
            for model in registry.models.values()
        ]
        typer.echo(json.dumps({"root": str(models.root()), "wanted": models.wanted(), "models": rows}, indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("name", "what for", "language", "size", "licence", "state", ""):
        table.add_column(name, justify="right" if name == "size" else "left", no_wrap=name in ("name", "size", "state"))
    for model in registry.models.values():
        state = "[green]there[/]" if there[model.name] else "not there"
        default = "default" if model.name in models.DEFAULT else ""
        size = _megabytes(model.size)
        table.add_row(model.name, model.purpose, model.language, size, model.licence, state, default)
    console = Console(highlight=False)
    console.print(table)
    if not models.wanted():
        where = "None is used: GREENROOM_MODELS is none."
    elif models.root().exists() and not models.root().is_dir():
        where = f"{models.root()} is a file, so none can be kept there: point GREENROOM_MODELS to a folder."
    else:
        where = f"They are kept in {models.root()}"
    console.print(f"\n{where}", soft_wrap=True, markup=False)


@app.command()
def get(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...]", help="Without names: the default set.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every model.")] = False,
) -> None:
    """Fetch models that are not there. What was broken off goes on where it stopped."""
    registry: models.Registry = context.obj
    chosen = list(registry.models) if everything else names or _default(registry)
    failed = False
    for name in chosen:  # a wrong name ends the command before anything is fetched
        _known(registry, name)
    for name in chosen:
        if registry.find(name):
            typer.echo(f"{name}: there")
            continue
        began = time.monotonic()
        try:
            with _progress() as report:
                registry.get(name, report)
        except models.ModelError as error:
            typer.echo(f"{error}.", err=True)
            failed = True
        else:
            size = _megabytes(registry.models[name].size)
            typer.echo(f"{name}: there, {size} in {time.monotonic() - began:.0f} s")
    if failed:
        raise typer.Exit(1)


@app.command()
def path(context: typer.Context, name: Name) -> None:
    """Print the folder of a model that is there. Exits 1 when it is not."""
    registry: models.Registry = context.obj
    with _told():
        _known(registry, name)
        typer.echo(registry.require(name))


@app.command()
def verify(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...]", help="Without names: every model that has a folder.", show_default=False),
    ] = None,
) -> None:
    """Read models from the disk and compare every byte. Exits 1 when one is damaged or missing."""
    registry: models.Registry = context.obj
    failed = False
    with _told():
        chosen = names or [name for name in registry.models if (models.root() / name).is_dir()]
        for name in chosen:
            _known(registry, name)
        for name in chosen:
            problems = registry.verify(name)
            failed = failed or bool(problems)
            if problems:
                typer.echo(f"{name}: {'; '.join(problems)}: `{registry.command('get', name)}` mends it", err=True)
            else:
                typer.echo(f"{name}: complete and unchanged")
    if not chosen:
        brings = registry.command("get", " ".join(_default(registry)))
        typer.echo(f"No model is on this machine: `{brings}` brings the default set.", err=True)
        failed = True
    if failed:
        raise typer.Exit(1)


@app.command()
def remove(context: typer.Context, name: Name) -> None:
    """Delete a model, and what is left of attempts to get it."""
    registry: models.Registry = context.obj
    with _told():
        _known(registry, name)
        freed = registry.remove(name)
    typer.echo(f"{name}: {_megabytes(freed)} freed" if freed else f"{name}: was not there")


def _default(registry: models.Registry) -> list[str]:
    return [name for name in models.DEFAULT if name in registry.models] or list(registry.models)


def _known(registry: models.Registry, name: str) -> None:
    if name not in registry.models:
        raise typer.BadParameter(f"there is no model {name!r}; there are {', '.join(registry.models)}")


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except models.ModelError as error:
        typer.echo(f"{error}.", err=True)
        raise typer.Exit(1) from error


@contextmanager
def _progress() -> Iterator[Report | None]:
    """A bar on a terminal, nothing elsewhere: a log needs the outcome only."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(32), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4) as progress:
        task = progress.add_task("asks where it is", total=None)

        def report(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total or None, description=what)

        yield report


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 10_000_000 else f"{size / 1e6:.1f} MB"
