"""What the browser is shown: real models that read a text, a picture and a sound, long input, and hostile words."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch
from torch import nn

from polyhead.lens.page.answers import Answers
from polyhead.lens.page.bundle import page
from polyhead.lens.page.scene import Scene
from polyhead.lens.page.server import Server
from polyhead.lens.recording import Recording
from polyhead.lens.rulers import Words
from polyhead.lens.see import Seen, see
from polyhead.lens.watch import watch
from tests.hostile import HOSTILE

TEXT, OTHER = "他说她没来，因为雨下得很大。", "他说她来了，因为雨下得不大。"
TOKEN = "a-token"


def served(answers: Answers) -> tuple[tuple[Server, Thread], str]:
    """A server that runs beside the test, and its address."""
    told: list[str] = []
    listening = Event()

    def hear(address: str) -> None:
        told.append(address)
        listening.set()

    server = Server(answers, page(), 0, hear, TOKEN)
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    assert listening.wait(20)
    return (server, thread), told[0]


@cache
def translated(text: str = TEXT) -> Seen:
    """The shipped translator at work."""
    return see(text)


def scene_of(seen: Seen, **how: Any) -> Scene:
    return Scene(seen.recording, seen.source, seen.model or "a model", lessons=seen.scene.lessons, **how)


def text(folder: Path) -> Answers:
    return Answers([scene_of(translated())])


def both(folder: Path) -> Answers:
    return Answers([scene_of(translated()), scene_of(translated(OTHER))])


def image(folder: Path) -> Answers:
    """A vision model of 16 patches, its weights random but large enough to look somewhere."""
    from PIL import Image

    from polyhead.tasks.load import load
    from tests.structure.worlds import classify

    classify(folder)
    loaded = load(folder / "my-digits")
    sharpen(loaded.model)
    picture = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    picture.paste((200, 40, 40), (32, 0, 64, 32))
    picture.save(folder / "square.png")
    return Answers([scene_of(see(image=folder / "square.png", model=loaded))])


def pictures(folder: Path) -> Answers:
    """The same model, two grey pictures: from dark to light downwards, and upwards."""
    from PIL import Image

    from polyhead.tasks.load import load
    from tests.structure.worlds import classify

    classify(folder)
    loaded = load(folder / "my-digits")
    sharpen(loaded.model)
    picture = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    picture.save(folder / "down.png")
    picture.rotate(180).save(folder / "up.png")
    return Answers([scene_of(see(image=folder / name, model=loaded)) for name in ("down.png", "up.png")])


def audio(folder: Path) -> Answers:
    from polyhead.tasks.load import load
    from tests.structure.worlds import transcribe

    transcribe(folder)
    loaded = load(folder / "my-hearer")
    return Answers([scene_of(see(audio=folder / "speech.wav", model=loaded))])


def sharpen(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ("query" in name or "key" in name) and weight.dim() == 2:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.5)


def drawn(n: int, *, heads: int = 2, layers: int = 2, causal: bool = False, batch: int = 1) -> Recording:
    """A hand-written model's attention over n places, its weights sharp enough to be seen."""
    generator = torch.Generator().manual_seed(1)

    class Model(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(layers):
                x = nn.functional.scaled_dot_product_attention(x, x.roll(1, 2) * 3, x, is_causal=causal)
            return x

    model = Model()
    with watch(model) as recording:
        model(torch.randn(batch, heads, n, 16, generator=generator))
    return recording


def hostile(folder: Path) -> Answers:
    recording = drawn(len(HOSTILE))
    recording.rulers = {"encoder": Words(tuple(HOSTILE))}
    return Answers([Scene(recording, "</script><script>alert(1)</script>", "<img src=x onerror=alert(2)>")])


PIECES = (
    "<s>",
    "The",
    " play",
    "ground",
    " was",
    " un",
    "believ",
    "ably",
    " quiet",
    ",",
    " 我",
    "爱",
    "㐂",
    "㐂",
    " don",
    "'t",
)


def pieces(folder: Path) -> Answers:
    """Words in pieces, causal: some have three, one character has two, Chinese stays as it is cut, and a sign."""
    recording = drawn(len(PIECES), causal=True)
    written, places = "", []
    for n, piece in enumerate(PIECES):
        if n and piece != PIECES[n - 1]:
            written += piece
        start = len(written) - len(piece.strip())
        places.append((start, len(written)) if n else (0, 0))
    recording.rulers = {"decoder": Words(PIECES, written, tuple(places), (0,))}
    return Answers([Scene(recording, written, "hand-written")])


def aimed(folder: Path) -> Answers:
    """Gradients of what the translator wrote; beside it, another text."""
    return Answers([scene_of(see(words, target="answer")) for words in (TEXT, OTHER)])


def window(folder: Path) -> Answers:
    """A text that is longer than a lesson, which a small model reads."""
    from tests.tasks.words import decoder_in_folder

    decoder_in_folder(folder / "bloom", architecture="BloomForCausalLM")
    return Answers([scene_of(see("the cat sat on the mat. " * 12, model=folder / "bloom"))])


def bare(folder: Path) -> Answers:
    """A recording of somebody's model, that has neither words nor a name."""
    return Answers([Scene(drawn(9, causal=True))])


def several(folder: Path) -> Answers:
    """Three sequences at once, of which the first has words."""
    recording = drawn(len(PIECES), causal=True, batch=3)
    recording.rulers = {"decoder": Words(PIECES)}
    return Answers([Scene(recording, "three", "hand-written")])


def long(folder: Path) -> Answers:
    """More than can be held: 3,000 places, causal."""
    recording = drawn(3000, causal=True)
    spelled = [f"w{i}" for i in range(3000)]
    written, places, at = " ".join(spelled), [], 0
    for word in spelled:
        places.append((at, at + len(word)))
        at += len(word) + 1
    recording.rulers = {
        "encoder": Words(tuple(spelled), written, tuple(places)),
        "decoder": Words(tuple(spelled), written, tuple(places)),
    }
    return Answers([Scene(recording, "long", "hand-written")])


SCENES: dict[str, Callable[[Path], Answers]] = {
    "text": text, "both": both, "image": image, "pictures": pictures, "audio": audio, "hostile": hostile, "long": long,
    "pieces": pieces, "bare": bare, "several": several, "aimed": aimed, "window": window,
}  # fmt: skip
