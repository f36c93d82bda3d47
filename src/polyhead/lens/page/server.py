"""A recording is answered for, to a browser on this machine and nobody else, until Ctrl-C.

Only 127.0.0.1 is listened on. A path begins with a token that nobody can guess; a request under another name than this
machine's (DNS rebinding) is refused; what a path says is never joined to a folder, and nothing is ever fetched.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

from polyhead.errors import ArgumentError
from polyhead.lens.page.answers import Answers
from polyhead.lens.page.bundle import Page

HOST = "127.0.0.1"
TAKEN = (1, 3)  # what uvicorn ends with where it cannot listen
PAYS = 0.9  # of an answer: what packing must save it down to
LEAST = 512  # bytes that are worth packing
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
NOTHING = "default-src 'none'"


def app_of(answers: Answers, page: Page, token: str) -> FastAPI:
    """The application that answers below /{token}/."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def same_machine(request: Request, go_on: Callable[[Request], Any]) -> Response:
        host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
        response = Response(status_code=403) if host not in (HOST, "localhost") else await go_on(request)
        for name, value in {"Content-Security-Policy": NOTHING, **ALWAYS}.items():
            response.headers.setdefault(name, value)
        return response

    @app.get("/{given}/{path:path}")
    def answer(given: str, path: str, request: Request) -> Response:
        if not secrets.compare_digest(given.encode("utf-8", "replace"), token.encode()):
            return Response(status_code=404)
        packs = "gzip" in request.headers.get("accept-encoding", "")
        if not path:
            return sent(page.html.encode(), "text/html", packs, {"Content-Security-Policy": page.policy})
        found = answers.get(path)
        return Response(status_code=404) if found is None else sent(found.body, found.type, packs, {})

    return app


def sent(body: bytes, type: str, packs: bool, headers: dict[str, str]) -> Response:
    """The answer, packed where the browser can open it and where it pays."""
    if packs and len(body) >= LEAST:
        packer = zlib.compressobj(6, zlib.DEFLATED, 31)
        small = packer.compress(body) + packer.flush()
        if len(small) < PAYS * len(body):
            packed = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
            return Response(small, media_type=type, headers=headers | packed)
    return Response(body, media_type=type, headers=headers)


class Server(uvicorn.Server):
    """A server that says its address once it listens; meanwhile the picture that a page opens with is made."""

    def __init__(self, answers: Answers, page: Page, port: int, tell: Callable[[str], None], token: str):
        answers.ahead()
        super().__init__(
            uvicorn.Config(
                app_of(answers, page, token), host=HOST, port=port, log_config=None, log_level="critical",
                access_log=False, server_header=False, lifespan="off",
                timeout_graceful_shutdown=1,
            )
        )  # fmt: skip
        self.tell, self.token = tell, token

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            self.tell(f"http://{HOST}:{port}/{self.token}/")


def serve(answers: Answers, page: Page, *, port: int = 0, tell: Callable[[str], None] = print) -> None:
    """Answer until Ctrl-C. port: 0 for one that is free. tell: hears the address. Raises ArgumentError."""
    token = secrets.token_urlsafe(24)
    server = Server(answers, page, port, tell, token)
    try:
        server.run()
    except KeyboardInterrupt:  # the way it ends
        return
    except SystemExit as end:
        if server.started or end.code not in TAKEN:  # it was told to end
            raise
        raise ArgumentError(
            f"Nothing can listen on port {port} of {HOST}, where something else may; choose another, or none."
        ) from None
