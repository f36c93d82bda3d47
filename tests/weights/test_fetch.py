"""A name with hf: becomes a folder without programs; no other name becomes a request; failures are sentences.

The hub is a small server on this machine that answers what `huggingface_hub` asks of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants

import polyhead
from polyhead import ArgumentError, CheckpointError, PolyheadError
from polyhead.tasks.load import find
from polyhead.weights.fetch import FETCHED, LEFT, fetch, first_line
from tests.tasks.words import decoder_in_folder

SHA, OLDER = "a" * 40, "b" * 40
PROGRAMS = {
    "pytorch_model.bin": b"\x80\x04",
    "modeling.py": b"print('run')",
    "tokenizer.pickle": b"\x80\x04",
    "model.pt": b"\x80\x04",
    "consolidated.safetensors": b"",
    "original/model.safetensors": b"",
    "tf_model.h5": b"",
}
KEPT = {"1_Pooling/config.json": b"{}", "additional_chat_templates/other.jinja": b"other", "vocab.txt": b"a\n"}


@dataclass
class Hub:
    """Repositories by name and commit, how each request is refused, and what was asked."""

    files: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    refuse: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    address: str = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        for pattern, (code, head) in self.refuse.items():
            if re.search(pattern, path):
                return code, head, b"{}"
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if api:
            name, what, revision = api[1], api[2] or "revision", api[3] or "main"
            if name not in self.files:
                return 401, {"X-Error-Code": "RepoNotFound"}, b"{}"
            commit = {"main": SHA, "v1": OLDER}.get(revision, revision)
            if commit not in self.files[name]:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
            if what == "tree":
                told: Any = [
                    {"type": "file", "path": path, "size": len(held), "oid": hashlib.sha1(held).hexdigest()}
                    for path, held in self.files[name][commit].items()
                ]
            else:
                siblings = [{"rfilename": path} for path in self.files[name][commit]]
                told = {"id": name, "sha": commit, "siblings": siblings, "private": False, "tags": [], "downloads": 1}
            return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()
        if file and (held := self.files.get(file[1], {}).get(file[2], {}).get(file[3])) is not None:
            etag = hashlib.sha1(held).hexdigest()
            return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": file[2]}, held
        return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("made")
    decoder_in_folder(folder, "LlamaForCausalLM", chats=True)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with one model in two revisions, which is the one that is asked."""
    older = model | {"README.md": b"# older"}
    here = Hub({"someone/talks": {SHA: model | PROGRAMS | KEPT | {"README.md": b"# newer"}, OLDER: older}})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            here.asked.append(f"{self.command} {path}")
            code, head, body = here.answer(path)
            self.send_response(code)
            for name, value in {"Content-Length": str(len(body)), **head}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    here.address = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "ENDPOINT": here.address, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": False,
        "HUGGINGFACE_CO_URL_TEMPLATE": here.address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_TOKEN_PATH": str(tmp_path / "token"), "HF_HUB_DISABLE_TELEMETRY": True,
    }.items():  # fmt: skip
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    huggingface_hub.close_session()
    yield here
    huggingface_hub.close_session()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_of_the_hub_is_fetched_once_and_is_the_model(hub: Hub, tmp_path: Path) -> None:
    folder = fetch("hf:someone/talks")
    assert tmp_path / "cache" in folder.parents
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {*hub.files["someone/talks"][OLDER], *KEPT} - {".gitattributes"}
    assert not [each for each in hub.asked for name in PROGRAMS if each.endswith("/" + name)]
    asked = len(hub.asked)
    found = polyhead.chat("the cat", model="hf:someone/talks", max_new=5)
    assert not [each for each in hub.asked[asked:] if "/resolve/" in each]
    again = polyhead.load("hf:someone/talks")
    assert polyhead.chat("the cat", model=again, max_new=5) == found and again.folder == folder


def test_a_revision_is_fetched_as_named(hub: Hub) -> None:
    for name, card in (("", "# newer"), ("@v1", "# older"), (f"@{OLDER}", "# older"), ("@main", "# newer")):
        assert (fetch(f"hf:someone/talks{name}") / "README.md").read_text("utf-8") == card


def test_what_is_in_the_cache_answers_without_a_connection(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch("hf:someone/talks")
    hub.refuse["."] = 503, {}
    assert fetch("hf:someone/talks") == folder
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert fetch("hf:someone/talks") == folder
    with pytest.raises(CheckpointError, match=r"hf:someone/other is not in the cache .* HF_HUB_OFFLINE keeps it from"):
        fetch("hf:someone/other")
    assert not hub.asked


REFUSED: dict[str, tuple[str, dict[str, tuple[int, dict[str, str]]], str]] = {
    "none": ("hf:someone/tlaks", {}, r"hf:someone/tlaks is not on http://127.*, or is private; check how"),
    "revision": ("hf:someone/talks@v2", {}, r"hf:someone/talks@v2 is not there: someone/talks has no such revision"),
    "gated": ("hf:someone/talks", {"resolve": (403, {"X-Error-Code": "GatedRepo"})}, r"accepted its terms; do so at"),
    "gated info": ("hf:someone/talks", {"api": (401, {"X-Error-Code": "GatedRepo"})}, r"accepted its terms; do so at"),
    "token": (
        "hf:someone/talks", {"api": (401, {"X-Error-Message": "Invalid credentials in Authorization header"})},
        r"refuses hf:someone/talks \(.*401.*\); log in",
    ),
    "forbidden": ("hf:someone/talks", {"resolve": (403, {})}, r"refuses hf:someone/talks \(.*403"),
    "broken": ("hf:someone/talks", {"api": (500, {})}, r"could not be fetched from http://127.* \(.*500.*check"),
    "empty": ("hf:someone/empty", {}, "hf:someone/empty holds no config.json"),
    "pickle": ("hf:someone/pickle", {}, "hf:someone/pickle holds no safetensors, and weights of other kinds are not"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_hub_refuses_is_one_sentence(hub: Hub, case: str) -> None:
    name, refuse, told = REFUSED[case]
    hub.files |= {"someone/empty": {SHA: {"a.txt": b""}}, "someone/pickle": {SHA: {"config.json": b"{}", **PROGRAMS}}}
    hub.refuse = refuse
    with pytest.raises(CheckpointError, match=told) as refused:
        polyhead.load(name)
    assert "\n" not in str(refused.value)
    assert not [each for each in hub.asked if each.endswith(".bin")]


def test_no_connection_is_one_sentence(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", nobody)
    with pytest.raises(
        CheckpointError, match=r"could not be fetched from http://127.*\(ConnectError: .*refused"
    ) as told:
        fetch("hf:someone/talks")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "name",
    [
        "hf:",
        "hf:talks",
        "hf:a/b/c",
        "hf:../b",
        "hf:a/b@",
        "hf:a/b@c d",
        "hf:a/b@c@d",
        "hf:a /b",
        "hf://a/b",
        "hf:a/b..",
    ],
)
def test_what_is_no_name_on_the_hub_is_not_asked_for(hub: Hub, name: str) -> None:
    with pytest.raises(ArgumentError, match=r"is no name on the hub"):
        polyhead.load(name)
    assert not hub.asked


@pytest.mark.parametrize(
    "name",
    [
        "someone/talks",
        "zh-em",
        "./nowhere",
        "HF:someone/talks",
        " hf:someone/talks",
        "https://huggingface.co/a/b",
        "hf",
    ],
)
def test_a_mistyped_folder_never_becomes_a_request(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a socket so much as made, it would fail otherwise than with this sentence."""

    def never(*given: Any, **named: Any) -> Any:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for what in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, what, never)
    for of in (name, Path(name)):
        with pytest.raises(PolyheadError, match="There is no model") as refused:
            find(of)
        assert ("write hf:someone/talks." in str(refused.value)) == (name == "someone/talks")


def test_nothing_of_the_hub_is_imported_for_a_folder(tmp_path: Path) -> None:
    decoder_in_folder(tmp_path, "LlamaForCausalLM")
    code = f"import sys, polyhead; polyhead.load({str(tmp_path)!r}); print('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_command_fetches_what_is_written_so_and_says_nothing_else(hub: Hub, tmp_path: Path) -> None:
    world = os.environ | {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}

    def polyhead(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "polyhead", *words]
        return subprocess.run(line, capture_output=True, text=True, env=world)

    done = polyhead("complete", "-m", "hf:someone/talks", "the cat", "--max-new", "2")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("the cat")
    assert (tmp_path / "home/hub/models--someone--talks/snapshots" / SHA / "model.safetensors").is_file()
    gone = polyhead("complete", "-m", "hf:someone/tlaks", "the cat")
    assert gone.returncode == 2 and gone.stderr.startswith("polyhead: hf:someone/tlaks is not on ")
    assert gone.stderr.count("\n") == 1


def test_an_error_is_told_in_one_line() -> None:
    assert first_line(ValueError("\n\n 404 Client Error. (Request ID: 1)\n\nmore")) == (
        "ValueError: 404 Client Error. (Request ID: 1)"
    )
    assert first_line(ValueError()) == "ValueError"


def test_what_models_are_made_of_is_fetched_and_nothing_else() -> None:
    from huggingface_hub.utils import filter_repo_objects

    wanted = (
        "config.json tokenizer.json spiece.model tokenizer.model model.safetensors model-00001-of-00002.safetensors "
        "model.safetensors.index.json 1_Pooling/config.json vocab.txt source.spm README.md chat_template.jinja"
    ).split()
    other = (
        "model.fp16.safetensors onnx/config.json onnx/model.onnx results/a.json logs/x.txt pytorch_model.bin code.py "
        "consolidated.safetensors onnx/tokenizer.model"
    ).split()
    found = filter_repo_objects([*wanted, *other], allow_patterns=list(FETCHED), ignore_patterns=list(LEFT))
    assert list(found) == wanted
