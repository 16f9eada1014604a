"""Asks package clients where packages are. They know this machine's registries, mirrors and proxies; we do not."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .errors import CannotFetch
from .registry import Package

__all__ = ["address", "fetch"]

LIMIT = 90.0
"""Seconds for an answer."""
FETCH_LIMIT = 900.0
"""Seconds for a package that a client downloads itself."""
CLIENTS = {"python": "pip", "npm": "npm", "debian": "apt-get"}
# Only wheels: a source package would be run to be asked.
PIP_FETCH_ARGUMENTS = (
    "--no-deps --only-binary=:all: --no-input --disable-pip-version-check --retries 1 --timeout 10 --quiet"
).split()
# A dry run prints what would be installed, and from where.
PIP_ARGUMENTS = [
    *"install --dry-run --ignore-installed --ignore-requires-python --report -".split(),
    *PIP_FETCH_ARGUMENTS,
]
NPM_ARGUMENTS = "--no-update-notifier --fetch-retries=1 --fetch-timeout=10000".split()
APT_ARGUMENTS = "-qq -o Acquire::Retries=2 -o Acquire::http::Timeout=10".split()


def address(kind: str, package: Package) -> str:
    """Where a `python` or `npm` package can be downloaded. Raises `CannotFetch`, with the client's own words."""
    return _python(package) if kind == "python" else _npm(package)


def _python(package: Package) -> str:
    output = _run(
        [*_pip(), *PIP_ARGUMENTS, f"{package.name}=={package.version}"],
        f"pip does not find {package}",
        PIP_REQUIRE_VIRTUALENV="0",
    )
    try:
        return str(json.loads(output)["install"][0]["download_info"]["url"])
    except (ValueError, LookupError, TypeError) as error:
        raise CannotFetch(f"pip says nothing usable about {package}") from error


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if program := shutil.which("pip3") or shutil.which("pip"):
        return [program]
    raise CannotFetch("pip, which knows where Python packages are, is not there (`python -m ensurepip` adds it)")


def _npm(package: Package) -> str:
    output = _run(
        [_program("npm"), "view", f"{package.name}@{package.version}", "dist.tarball", *NPM_ARGUMENTS],
        f"npm does not find {package}",
    )
    lines = output.strip().splitlines()
    if len(lines) != 1:
        raise CannotFetch(f"npm says nothing usable about {package}")
    return lines[0].strip()


def fetch(kind: str, package: Package, target: Path) -> None:
    """Let the client itself download a package to `target`. It starts from nothing, but has credentials that we do not."""
    words = f"{package.name}=={package.version}"
    if kind == "python":
        command = [*_pip(), "download", *PIP_FETCH_ARGUMENTS, words]
    elif kind == "npm":
        command = [_program("npm"), "pack", f"{package.name}@{package.version}", "--ignore-scripts", *NPM_ARGUMENTS]
    else:
        command = [_program("apt-get"), "download", *APT_ARGUMENTS, f"{package.name}={package.version}"]
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        _run(command, f"{CLIENTS[kind]} does not bring {package}", folder, FETCH_LIMIT, PIP_REQUIRE_VIRTUALENV="0")
        found = [path for path in Path(folder).iterdir() if path.suffix in (".whl", ".tgz", ".deb")]
        if len(found) != 1:
            raise CannotFetch(f"{CLIENTS[kind]} has not brought {package}")
        found[0].replace(target)


def _program(name: str) -> str:
    if program := shutil.which(name):
        return program
    what, where = {"npm": ("Node", "it comes with Node.js"), "apt-get": ("Debian", "Debian and its relatives have it")}[
        name
    ]
    raise CannotFetch(f"{name}, which knows where {what} packages are, is not there ({where})")


def _run(
    command: Sequence[str], failed: str, folder: str | None = None, limit: float = LIMIT, **environment: str
) -> str:
    """The output of a command. Raises `CannotFetch` that begins with `failed` when it fails."""
    with tempfile.TemporaryDirectory() as empty:  # a project's own settings are not ours
        try:
            result = subprocess.run(
                command,
                cwd=folder or empty,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CannotFetch(f"{failed}: no answer within {limit:g} s") from error
        except OSError as error:
            raise CannotFetch(f"{failed}: {error.strerror}") from error
    if result.returncode:
        raise CannotFetch(f"{failed}{_reason(result.stderr)}")
    return result.stdout


def _reason(text: str) -> str:
    """The last thing that a client complained of, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip().lower().startswith(("error", "e:", "npm err"))]
    words = lines[-1].split(":", 1)[-1].strip() if lines else ""
    return f": {words[:160].rstrip('. ')}" if words else ""
