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

__all__ = ["address", "fetch_debian"]

LIMIT = 90.0
"""Seconds for an answer."""
DEBIAN_LIMIT = 900.0
"""Seconds for a Debian package, whose client downloads it itself."""
# A dry run prints what would be installed and from where. Only wheels: a source package would be run to be asked.
PIP_ARGUMENTS = (
    "install --dry-run --no-deps --ignore-installed --ignore-requires-python --only-binary=:all: --no-input"
    " --disable-pip-version-check --retries 1 --timeout 10 --quiet --report -"
).split()
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
    program = shutil.which("npm")
    if not program:
        raise CannotFetch("npm, which knows where Node packages are, is not there (it comes with Node.js)")
    output = _run(
        [program, "view", f"{package.name}@{package.version}", "dist.tarball", *NPM_ARGUMENTS],
        f"npm does not find {package}",
    )
    lines = output.strip().splitlines()
    if len(lines) != 1:
        raise CannotFetch(f"npm says nothing usable about {package}")
    return lines[0].strip()


def fetch_debian(package: Package, target: Path) -> None:
    """Let the system's client download a Debian package to `target`."""
    program = shutil.which("apt-get")
    if not program:
        raise CannotFetch("apt-get, which knows where Debian packages are, is not there")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        _run(
            [program, "download", *APT_ARGUMENTS, f"{package.name}={package.version}"],
            f"apt-get does not find {package} (`apt-get update` refreshes its lists)",
            folder=folder,
            limit=DEBIAN_LIMIT,
        )
        found = list(Path(folder).glob("*.deb"))
        if len(found) != 1:
            raise CannotFetch(f"apt-get has not brought {package}")
        found[0].replace(target)


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
