"""A real server on a real port: it answers this machine, below its token, and nobody and nothing else."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from polyhead.errors import ArgumentError
from polyhead.lens.page import bundle, wire
from polyhead.lens.page.server import Server, sent, serve
from polyhead.lens.rulers import Words
from tests.hostile import HOSTILE
from tests.lens.page.scenes import answers_of, recorded, simple
from tests.lens.page.test_answers import WRONG, long

TOKEN = "a-token-of-this-test"


@dataclass
class Asked:
    """A server at work."""

    port: int

    def __call__(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, Any]:
        """What a path, sent as it is written here, is answered with."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": f"127.0.0.1:{self.port}", **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body, answer.headers


@pytest.fixture(scope="module")
def ask() -> Iterator[Asked]:
    recording = recorded()
    recording.rulers = {"encoder": Words(tuple(HOSTILE[:9]))}
    addresses = Queue[str]()
    server = Server(answers_of(recording, long(300)[0]), simple(), 0, addresses.put, TOKEN)
    thread = threading.Thread(target=server.run)
    thread.start()
    address = addresses.get(timeout=30)
    assert re.fullmatch(rf"http://127\.0\.0\.1:\d+/{TOKEN}/", address)
    yield Asked(int(address.split(":")[2].split("/")[0]))
    server.should_exit = True
    thread.join(20)


def test_answers_are_those_of_the_recording(ask: Asked) -> None:
    answers = answers_of(recorded())
    for path in ("thumbs/0.bin", "whole/3/0.bin", "row/2/1/1/4.bin", "cell/1/0/2/3.bin"):
        status, body, headers = ask(f"/{TOKEN}/{path}")
        wanted = answers.get(path)
        assert wanted is not None and (status, body) == (200, wanted.body)
        assert headers["Content-Type"] == "application/octet-stream"
    assert ask(f"/{TOKEN}/b/thumbs/0.bin")[0] == 200


def test_the_page_has_its_policy_and_answers_have_none_to_give(ask: Asked) -> None:
    status, body, headers = ask(f"/{TOKEN}/")
    assert (status, body.decode(), headers["Content-Security-Policy"]) == (200, simple().html, simple().policy)
    for path in (f"/{TOKEN}/scene.json", f"/{TOKEN}/none", "/"):
        headers = ask(path)[2]
        assert headers["Content-Security-Policy"] == "default-src 'none'"
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin" and headers["Cache-Control"] == "no-store"
        assert "Server" not in headers and "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "example.org:80",
        "127.0.0.1.example.org",
        "evil@127.0.0.1",
        "0.0.0.0",
        "[::1]",
        "",
        "LOCALHOST.:1",
    ],
)
def test_other_names_of_this_machine_are_refused(ask: Asked, host: str) -> None:
    status, body, _ = ask(f"/{TOKEN}/scene.json", Host=host)
    assert (status, body) in ((403, b""), (400, body)) and b"polyhead" not in body and b"title" not in body


def test_its_own_names_are_not(ask: Asked) -> None:
    for host in (f"127.0.0.1:{ask.port}", f"localhost:{ask.port}"):
        assert ask(f"/{TOKEN}/scene.json", Host=host)[0] == 200


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "%00", "%FF", "..", "%C3%A9"])
def test_without_the_token_nothing_is_found(ask: Asked, token: str) -> None:
    for path in ("", "scene.json", "thumbs/0.bin"):
        status, body, _ = ask(f"/{token}/{path}")
        assert status in (404, 400) and b"title" not in body


@pytest.mark.parametrize(
    "path",
    [
        *(path for path in WRONG if path.isascii() and path.isprintable() and path.strip("/")),
        "%2e%2e/scene.json", "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "....//etc/passwd", "..\\..\\etc", "%00",
        "thumbs/%30.bin%00", "docs", "openapi.json", "redoc", "index.html", "thumbs/0.bin;x", "file:///etc/passwd",
        "\\\\host\\share", "%252e%252e%252fetc%252fpasswd",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file(ask: Asked, path: str) -> None:
    status, body, _ = ask(f"/{TOKEN}/{path}")
    assert status in (404, 400) and b"root:" not in body and len(body) < 200


def test_a_query_changes_nothing(ask: Asked) -> None:
    assert ask(f"/{TOKEN}/scene.json?path=../../etc/passwd")[1] == ask(f"/{TOKEN}/scene.json")[1]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_nothing_can_be_done_but_ask(ask: Asked, method: str) -> None:
    status, _, headers = ask(f"/{TOKEN}/scene.json", method)
    assert status == 405 and "Access-Control-Allow-Origin" not in headers


def test_hostile_words_stay_data(ask: Asked) -> None:
    status, body, headers = ask(f"/{TOKEN}/ruler/0/0.json")
    assert status == 200 and headers["Content-Type"].startswith("application/json")
    assert json.loads(body)["labels"] == HOSTILE[:9]
    assert all(0x20 <= byte < 0x7F for byte in body)  # nothing in it acts on anything


def test_no_answer_is_too_large_and_packing_is_for_who_can_unpack(ask: Asked) -> None:
    path = f"/{TOKEN}/b/tile/0/0/0/0/0/0.bin"
    _, plain, headers = ask(path)
    assert len(plain) == 16 + 256 * 256 <= wire.LARGEST and "Content-Encoding" not in headers
    _, small, headers = ask(path, Accept_Encoding="gzip, br")
    assert headers["Content-Encoding"] == "gzip" and headers["Vary"] == "Accept-Encoding"
    assert len(small) < len(plain) and gzip.decompress(small) == plain


def test_the_whole_page_travels_in_64_kilobytes() -> None:
    page = bundle.page()
    small = sent(page.html.encode(), "text/html", True, {"Content-Security-Policy": page.policy})
    assert len(small.body) <= 65_536 and gzip.decompress(bytes(small.body)).decode() == page.html
    assert small.headers["Content-Security-Policy"] == page.policy and small.headers["Content-Encoding"] == "gzip"


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ArgumentError, match=f"Nothing can listen on port {port} of 127.0.0.1") as refused:
            serve(answers_of(recorded()), simple(), port=port, tell=lambda address: None)
        assert "\n" not in str(refused.value)


SERVED = """
import sys
from tests.lens.page.scenes import answers_of, recorded, simple
from polyhead.lens.page.server import serve
{}
serve(answers_of(recorded()), simple(), tell=lambda address: print(address, flush=True))
print("ended", flush=True)
"""


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM])
def test_it_listens_on_this_machine_alone_and_ends_when_told(ends: signal.Signals) -> None:
    root = Path(__file__).parents[3]
    watched = "sys.addaudithook(lambda event, given: event == 'socket.connect' and print('asks', given, flush=True))"
    code = SERVED.format(watched)
    served = subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True)
    assert served.stdout is not None
    address = served.stdout.readline().strip()
    port, token = int(address.split(":")[2].split("/")[0]), address.split("/")[3]
    assert len(token) >= 32  # 24 random bytes
    assert Asked(port)(f"/{token}/scene.json")[0] == 200
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    own = [line[1] for line in listening if line[3] == "0A" and int(line[1].split(":")[1], 16) == port]
    assert own == [f"0100007F:{port:04X}"]
    time.sleep(0.2)
    served.send_signal(ends)
    rest, _ = served.communicate(timeout=20)
    assert "asks" not in rest  # it made no connection of its own
    assert rest == ("ended\n" if ends == signal.SIGINT else "")


def test_tokens_differ_from_server_to_server(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(Server, "run", lambda self: made.append(self.token))
    for _ in range(3):
        serve(answers_of(recorded()), simple())
    assert len(set(made)) == 3
