"""The command that adds an extra's packages works wherever the package is, published or not."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from greenroom.extras import EXTRAS, install_command

ROOT = Path(__file__).parents[2]


def test_the_requirements_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {name: tuple(project["optional-dependencies"][name]) for name in EXTRAS} == EXTRAS


def test_it_is_for_this_python(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert shlex.split(install_command("speech")) == [
        *(sys.executable, "-m", "pip", "install"),
        *EXTRAS["speech"],
    ]
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    assert install_command("speech").startswith("bin/python -m pip install")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert install_command("speech").startswith("uv pip install --python bin/python")


@pytest.mark.parametrize("folder", [ROOT, Path("/")], ids=["in a checkout", "elsewhere"])
def test_a_shell_runs_it(monkeypatch, folder):
    monkeypatch.chdir(folder)
    command = f"{install_command('speech')} --no-index --disable-pip-version-check"  # what the tests need is there
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("already satisfied: p") >= len(EXTRAS["speech"])
