"""Draw what each statistic of `Observe` tells of one head of the shipped translator: python docs/pictures/statistics.py

Needs matplotlib (the extra `bench`). Titles are code, so that the picture is the same in every language.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy

matplotlib.use("Agg")
import torch
from matplotlib import pyplot

import polyhead

SOURCE = "我小时候每年夏天都和父亲一起去河边，我们在那里抓了很多鱼。"
TARGET = "When I was a child, I used to go to the river with my father every summer, and we caught many fish there."
LAYER, HEAD = "decoder.blocks.1.attn", 0
QUERY = 19  # the row that is shown by itself
WISH = polyhead.Observe(
    links=2, entropy=True, squares=True, distance=True, mass={"first": range(1), "near": polyhead.Window(2, 0)},
    received=True, mean_map=(7, 7), max_map=(7, 7), rows=[QUERY], rectangles=[(range(18, 24), range(12, 24))],
)  # fmt: skip
INK, FAINT = "tab:blue", "Blues"


def recorded() -> tuple[torch.Tensor, Any, list[str]]:
    """The map of the head [T, S], its statistics, and its words."""
    loaded = polyhead.load("zh-en")
    source = torch.tensor([loaded.tokenizer.source.encode(SOURCE)])
    target = loaded.tokenizer.target.encode(TARGET)
    inputs = torch.tensor([[loaded.config.start_id, *target[:-1]]])
    with polyhead.watch(loaded.model) as recording:
        loaded.model(source, inputs)
    call = recording[LAYER]
    words = ["(start)", *(piece.text.replace("▁", "") for piece in loaded.tokenizer.target.pieces(TARGET))]
    return call.weights()[0, HEAD], call.observe(WISH), words[: inputs.shape[1]]


def main() -> None:
    weights, found, words = recorded()
    n = len(words)
    places = range(n)
    figure, axes = pyplot.subplots(3, 4, figsize=(15, 12.5), layout="constrained")

    def of(x: torch.Tensor) -> Any:
        return x[0, HEAD].numpy()

    def map_in(at: Any, shown: Any, title: str, strength: float = 1.0) -> None:
        at.imshow(shown, cmap=FAINT, vmin=0, vmax=float(shown.max()) / strength, aspect="equal")
        at.set_title(title, family="monospace", fontsize=11)

    def bars(at: Any, x: Any, title: str) -> None:
        at.barh(places, x, color=INK)
        at.set_title(title, family="monospace", fontsize=11)
        at.set_ylim(n - 0.5, -0.5)
        at.grid(axis="x", alpha=0.3)

    map_in(axes[0, 0], weights, "record.weights()")
    map_in(axes[0, 1], weights, "links=2", 0.25)
    links = found.links
    for k in range(2):
        at, size = of(links.keys)[:, k], of(links.weights)[:, k]
        seen = at >= 0
        axes[0, 1].scatter(at[seen], numpy.arange(n)[seen], s=90 * size[seen], color=("tab:red", "tab:orange")[k])
    bars(axes[0, 2], of(found.entropy), "entropy=True")
    bars(axes[0, 3], of(found.effective_keys), "squares=True: effective_keys")
    map_in(axes[1, 0], weights, "distance=True: offset, spread", 0.25)
    axes[1, 0].errorbar(
        numpy.arange(n) + of(found.offset), places, xerr=of(found.spread), fmt="o", color="tab:red", markersize=4, lw=1
    )
    axes[1, 0].plot([0, n - 1], [0, n - 1], ":", color="gray", lw=1)
    bars(axes[1, 1], of(found.mass["first"]), 'mass={"first": range(1)}')
    bars(axes[1, 2], of(found.mass["near"]), 'mass={"near": Window(2, 0)}')
    axes[1, 3].bar(places, of(found.received), color=INK)
    axes[1, 3].set_title("received=True", family="monospace", fontsize=11)
    axes[1, 3].grid(axis="y", alpha=0.3)
    map_in(axes[2, 0], of(found.mean_map), "mean_map=(7, 7)")
    map_in(axes[2, 1], of(found.max_map), "max_map=(7, 7)")
    axes[2, 2].bar(places, of(found.rows)[0], color=INK)
    axes[2, 2].set_title(f'rows=[{QUERY}]: "{words[QUERY]}"', family="monospace", fontsize=11)
    map_in(axes[2, 3], of(found.rectangles[0]), "rectangles=[(rows, columns)]")

    named = axes[0, 0], axes[0, 1], axes[0, 2], axes[0, 3], axes[1, 0], axes[1, 1], axes[1, 2]
    for at in named:
        at.set_yticks(places, words, fontsize=7)
    for at in (axes[0, 0], axes[0, 1], axes[1, 0], axes[1, 3], axes[2, 2]):
        at.set_xticks(places, words, fontsize=7, rotation=90)
    rows, columns = WISH.rectangles[0]
    axes[2, 3].set_yticks(range(len(rows)), [words[i] for i in rows], fontsize=7)
    axes[2, 3].set_xticks(range(len(columns)), [words[j] for j in columns], fontsize=7, rotation=90)
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path, dpi=80)
    print(f"drawn: {path.name}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
