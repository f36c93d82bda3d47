"""Take the pictures of docs/page.md: python docs/pictures/page.py runs/digits (a model of recipes/digits.toml)

The translator is the shipped one, the digit classifier that of the folder, the listener a tiny one with random weights,
and the heads of the 32k text are written by hand: what they look at is known.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from torch import nn

from polyhead.lens.page.answers import Answers
from polyhead.lens.page.scene import Scene
from polyhead.lens.rulers import Words
from polyhead.lens.see import see
from polyhead.lens.watch import watch
from tests.page.scenes import audio, scene_of, served

HERE = Path(__file__).parent
FIRST = "他说她没来，因为雨下得很大，所以我们就在家里看电影。"
SECOND = "他说她来了，因为雨下得不大，所以我们就出去看电影。"
LAPTOP, PHONE = (1280, 720), (390, 844)
FEW = 256  # colours of a file
PLACES = 32_768

SHOTS = {
    "page-lines": ("translation", "", LAPTOP),
    "page-map": ("translation", "call=6&view=map&query=5&key=2&theme=dark&lang=zh", LAPTOP),
    "page-text": ("translation", "call=6&head=5&view=text&query=12", LAPTOP),
    "page-distance": ("translation", "call=5&head=2&view=distance&query=9&key=8", LAPTOP),
    "page-difference": ("translation", "call=1&head=3&view=map&side=d", LAPTOP),
    "page-heads": ("translation", "view=heads&order=m1", LAPTOP),
    "page-image": ("image", "call=2&head=1", LAPTOP),
    "page-sound": ("sound", "call=3&head=0&query=8&theme=dark", LAPTOP),
    "page-long": ("long", "call=0&head=1&query=30000&weighting=0&scale=log", LAPTOP),
    "page-phone": ("translation", "query=4", PHONE),
}


def translation() -> Answers:
    return Answers([scene_of(see(FIRST)), scene_of(see(SECOND))])


def image(model: str) -> Answers:
    """A five, drawn here."""
    from PIL import ImageDraw, ImageFilter

    picture = Image.new("L", (280, 280))
    draw = ImageDraw.Draw(picture)
    for line in (
        [(190, 60), (110, 60), (105, 130)],
        [(105, 130), (150, 120), (190, 150), (185, 200), (140, 225), (95, 205)],
    ):
        draw.line(line, fill=255, width=24, joint="curve")
    picture = picture.filter(ImageFilter.GaussianBlur(6)).resize((28, 28))
    with tempfile.TemporaryDirectory() as folder:
        picture.save(Path(folder) / "five.png")
        return Answers([scene_of(see(image=Path(folder) / "five.png", model=model))])


def long() -> Answers:
    """Heads that look at the same word, at the word after an earlier one like it, just behind, and at the beginning."""
    written = "\n".join(file.read_text("utf-8") for file in sorted(HERE.parent.rglob("*.md"), key=lambda f: f.name))
    spans = [m.span() for m in re.finditer(r"\w+|[^\w\s]", written * 3)][: PLACES - 1]
    written = (written * 3)[: spans[-1][1]]
    labels = ("<start>", *(written[a:b] for a, b in spans))
    known: dict[str, int] = {}
    ids = torch.tensor([known.setdefault(label.lower(), len(known)) for label in labels])
    generator = torch.Generator().manual_seed(1)
    word = nn.functional.normalize(torch.randn(len(known), 32, generator=generator), dim=-1)[ids]
    before, place = word.roll(1, 0), torch.arange(len(ids))[:, None]
    turn = place * torch.exp(-torch.linspace(0, 9, 16))
    near = torch.cat([turn.cos(), turn.sin()], 1)
    heads = [(word * 14, word * 8), (word * 14, before * 8), (near * 8, near * 4), (near, near)]
    query, key = (torch.stack([pair[side] for pair in heads])[None] for side in (0, 1))
    query, key = (
        torch.cat([query, torch.full_like(query[..., :1], 9)], -1),
        torch.cat([key, torch.zeros_like(key[..., :1])], -1),
    )
    key[:, :, 0, -1] = 5

    class Heads(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            query, key = x.chunk(2, -1)
            return nn.functional.scaled_dot_product_attention(query, key, key, is_causal=True)

    model = Heads()
    with watch(model) as recording, torch.inference_mode():
        model(torch.cat([query, key], -1))
    recording.rulers = {"decoder": Words(labels, written, ((0, 0), *spans), (0,))}
    return Answers([Scene(recording, "32,768 words of these pages", "four heads written by hand")])


def shoot(browser: Browser, addresses: dict[str, str]) -> None:
    for name, (scene, fragment, (width, height)) in SHOTS.items():
        context = browser.new_context(
            viewport={"width": width, "height": height}, locale="en-US", reduced_motion="reduce"
        )
        page = context.new_page()
        page.goto(f"{addresses[scene]}#{fragment}")
        page.wait_for_selector("#page[data-ready]")
        page.wait_for_timeout(12_000 if scene == "long" else 1500)
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        picture.quantize(FEW, kmeans=1, dither=Image.Dither.NONE).save(HERE / f"{name}.png", optimize=True)
        context.close()


def main() -> None:
    scenes = {
        "translation": translation(),
        "image": image(sys.argv[1]),
        "sound": audio(Path(tempfile.mkdtemp())),
        "long": long(),
    }
    running = {name: served(answers) for name, answers in scenes.items()}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        shoot(browser, {name: address for name, (_, address) in running.items()})
        browser.close()
    for (server, thread), _ in running.values():
        server.should_exit = True
        thread.join(5)


if __name__ == "__main__":
    main()
