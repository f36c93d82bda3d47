"""A long recording is made, or opened and answered for by a real server, which this process asks and times."""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from queue import Queue
from typing import Any

import torch
from common import serve

from polyhead.core import Recipe, Run, Stack
from polyhead.core.norm import LayerNorm
from polyhead.lens.page.answers import Answers
from polyhead.lens.page.bundle import page
from polyhead.lens.page.scene import Scene
from polyhead.lens.page.server import Server
from polyhead.lens.recording import Call, Recording
from polyhead.lens.rulers import Words
from polyhead.lens.watch import watch

TOKEN = "benchmark"
held: dict[str, Any] = {}


def make(path: str, tokens: int, layers: int, heads: int, threads: int) -> dict[str, Any]:
    """A causal layer of a random model over random words is recorded, and kept once for each layer of the file."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    width = 64 * heads
    recipe = Recipe(n_layers=1, d_model=width, n_heads=heads, d_ff=width, norm=LayerNorm(), causal=True)
    stack = Stack(recipe).eval()
    for parameter in stack.parameters():
        torch.nn.init.normal_(parameter, std=2 * width**-0.5)  # so that its heads look somewhere
    start = time.perf_counter()
    with watch(stack) as recording, torch.inference_mode():
        stack(torch.randn(1, tokens, width), Run())
    seconds = time.perf_counter() - start
    [call] = recording

    def layer(n: int) -> Call:
        return replace(call, name=f"decoder.blocks.{n}.attn")

    several = Recording(entries=[(f"decoder.blocks.{n}.attn", lambda n=n: layer(n)) for n in range(layers)])
    words = tuple(f"w{i % 5000}" for i in range(tokens))
    ends = [0]
    for word in words:
        ends.append(ends[-1] + len(word) + 1)
    places = tuple((start, end - 1) for start, end in pairwise(ends))
    several.rulers = {"decoder": Words(words, " ".join(words), places)}
    several.save(path)
    return {"seconds": seconds, "bytes": Path(path).stat().st_size}


def open_page(path: str, threads: int) -> dict[str, Any]:
    """The time from nothing but the path to an address that answers."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    answers = Answers([Scene(Recording.load(path), "a long text", "a model")])
    addresses = Queue[str]()
    server = Server(answers, page(), 0, addresses.put, TOKEN)
    threading.Thread(target=server.run, daemon=True).start()
    address = addresses.get()
    held["port"] = int(address.split(":")[2].split("/")[0])
    held["server"] = server
    return {"seconds": time.perf_counter() - start, "address": address}


def ask(path: str) -> dict[str, Any]:
    """One request as a browser makes it: how long it takes, and how many bytes travel."""
    connection = http.client.HTTPConnection("127.0.0.1", held["port"])
    start = time.perf_counter()
    connection.request("GET", f"/{TOKEN}/{path}", headers={"Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    body = answer.read()
    seconds = time.perf_counter() - start
    connection.close()
    assert answer.status == 200, (path, answer.status)
    return {"seconds": seconds, "bytes": len(body)}


if __name__ == "__main__":
    serve({"make": make, "open": open_page, "ask": ask})
