"""`greenroom doctor` finds what is there, and says what brings the rest."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from greenroom.cli import doctor
from greenroom.cli.doctor import examine, local_model_server


@contextmanager
def serving(body: bytes, status: int = 200) -> Iterator[int]:
    """A port on which every GET is answered so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if self.path == "/v1/models" else b"{}")

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_a_local_server_of_language_models_is_found() -> None:
    with serving(b'{"object": "list", "data": [{"id": "small"}]}') as port:
        found = local_model_server([("nobody", 1), ("Ollama", port)])
        assert found == ("Ollama", f"http://127.0.0.1:{port}/v1", ["small"])


@pytest.mark.parametrize(
    ("body", "status"), [(b"<html>", 200), (b"[]", 200), (b'{"data": 1}', 200), (b'{"data": []}', 404)]
)
def test_something_else_on_its_port_is_not_taken_for_one(body: bytes, status: int) -> None:
    with serving(body, status) as port:
        assert local_model_server([("llama.cpp", port)]) == ("", "", [])


def test_the_remedy_names_a_model_too_without_which_ollama_would_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with serving(b'{"data": [{"id": "small"}, {"id": "large"}]}') as port:
        monkeypatch.setattr(doctor, "local_model_server", lambda: local_model_server([("Ollama", port)]))
        found = doctor.model_endpoint()
        url = f"http://127.0.0.1:{port}/v1"
    assert not found.found and found.remedy == f"OPENAI_BASE_URL={url} OPENAI_MODEL=small   (Ollama is running)"


@pytest.mark.parametrize(
    ("model", "body", "status", "words"),
    [
        ("small", b'{"data": [{"id": "small"}]}', 200, ""),
        ("huge", b'{"data": [{"id": "small"}]}', 200, ", but OPENAI_MODEL=huge, which it does not list; it has small"),
        ("", b'{"data": [{"id": "small"}]}', 200, ", but no OPENAI_MODEL; it has small"),
        ("small", b"{}", 401, ", which does not say what models it has: HTTP Error 401: Unauthorized"),
    ],
)
def test_a_chosen_server_is_asked(
    monkeypatch: pytest.MonkeyPatch, model: str, body: bytes, status: int, words: str
) -> None:
    with serving(body, status) as port:
        url = f"http://127.0.0.1:{port}/v1"
        monkeypatch.setenv("OPENAI_BASE_URL", url + "/")
        monkeypatch.setenv("OPENAI_MODEL", model)
        assert doctor.model_endpoint().found == url + words


def test_a_chosen_server_that_is_gone_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    found = doctor.model_endpoint()
    assert not found.found and "http://127.0.0.1:1/v1 does not answer" in found.cost


def test_without_models_the_small_ones_are_said_to_be_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_MODELS", "none")
    findings = {finding.name: finding for finding in examine()}
    assert not findings["recognition"].found and findings["recognition"].remedy == "greenroom models get"
    assert not findings["voice"].found and "small" in findings["voice"].cost
    assert findings["small recognition"].found.startswith("pocketsphinx")
