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
QUERY, KEY = 19, 1  # the row and the column that are shown by themselves
WISH = polyhead.Observe(
    links=2, entropy=True, squares=True, distance=True, mass={"first": range(1), "near": polyhead.Window(2, 0)},
    received=True, mean_map=(7, 7), max_map=(7, 7), rows=[QUERY], columns=[KEY],
    rectangles=[(range(18, 24), range(12, 24))],
)  # fmt: skip
OF_ALL = polyhead.Observe(mean_map=(64, 64), heads="mean")  # a grid finer than the map is the map itself
INK, FAINT, SMALL = "tab:blue", "Blues", 8


def recorded() -> tuple[torch.Tensor, Any, torch.Tensor, list[str]]:
    """The map of the head [T, S], its statistics, the mean map of all heads [T, S], and its words."""
    loaded = polyhead.load("zh-en")
    source = torch.tensor([loaded.tokenizer.source.encode(SOURCE)])
    target = loaded.tokenizer.target.encode(TARGET)
    inputs = torch.tensor([[loaded.config.start_id, *target[:-1]]])
    with polyhead.watch(loaded.model) as recording:
        loaded.model(source, inputs)
    call = recording[LAYER]
    words = ["(start)", *(piece.text.replace("▁", "") for piece in loaded.tokenizer.target.pieces(TARGET))]
    every = call.observe(OF_ALL).mean_map[0, 0]
    return call.weights()[0, HEAD], call.observe(WISH), every, words[: inputs.shape[1]]


def main() -> None:
    weights, found, every, words = recorded()
    n = len(words)
    places = range(n)
    figure, axes = pyplot.subplots(3, 5, figsize=(19, 13), layout="constrained")

    def of(x: torch.Tensor) -> Any:
        return x[0, HEAD].numpy()

    def name(at: Any, title: str) -> None:
        at.set_title(title, family="monospace", fontsize=11)

    def map_in(at: Any, shown: Any, title: str, strength: float = 1.0) -> None:
        at.imshow(shown, cmap=FAINT, vmin=0, vmax=float(shown.max()) / strength, aspect="equal")
        name(at, title)

    def of_rows(at: Any, x: Any, title: str) -> None:
        at.barh(places, x, color=INK)
        name(at, title)
        at.set_ylim(n - 0.5, -0.5)
        at.grid(axis="x", alpha=0.3)
        at.set_yticks(places, words, fontsize=SMALL)

    def of_keys(at: Any, x: Any, title: str) -> None:
        at.bar(places, x, color=INK)
        name(at, title)
        at.grid(axis="y", alpha=0.3)
        at.set_xticks(places, words, fontsize=SMALL, rotation=90)

    def of_both(at: Any, rows: range, columns: range) -> None:
        at.set_yticks(range(len(rows)), [words[i] for i in rows], fontsize=SMALL)
        at.set_xticks(range(len(columns)), [words[j] for j in columns], fontsize=SMALL, rotation=90)

    (whole, links, entropy, effective, distance), (offset, first, near, column, received), last = axes
    mean_map, max_map, all_heads, row, rectangle = last
    map_in(whole, weights, "record.weights()")
    map_in(links, weights, "links=2", 0.25)
    for k, colour in enumerate(("tab:red", "tab:orange")):
        at, size = of(found.links.keys)[:, k], of(found.links.weights)[:, k]
        seen = at >= 0
        links.scatter(at[seen], numpy.arange(n)[seen], s=90 * size[seen], color=colour)
    of_rows(entropy, of(found.entropy), "entropy=True")
    of_rows(effective, of(found.effective_keys), "squares=True: effective_keys")
    of_rows(distance, of(found.distance), "distance=True: distance")
    map_in(offset, weights, "distance=True: offset, spread", 0.25)
    offset.errorbar(
        numpy.arange(n) + of(found.offset), places, xerr=of(found.spread), fmt="o", color="tab:red", markersize=4, lw=1
    )
    offset.plot([0, n - 1], [0, n - 1], ":", color="gray", lw=1)
    of_rows(first, of(found.mass["first"]), 'mass={"first": range(1)}')
    of_rows(near, of(found.mass["near"]), 'mass={"near": Window(2, 0)}')
    of_rows(column, of(found.columns)[:, 0], f'columns=[{KEY}]: "{words[KEY]}"')
    of_keys(received, of(found.received), "received=True")
    map_in(mean_map, of(found.mean_map), "mean_map=(7, 7)")
    map_in(max_map, of(found.max_map), "max_map=(7, 7)")
    map_in(all_heads, every, 'mean_map, heads="mean"')
    of_keys(row, of(found.rows)[0], f'rows=[{QUERY}]: "{words[QUERY]}"')
    map_in(rectangle, of(found.rectangles[0]), "rectangles=[(rows, columns)]")
    for at in (whole, links, offset, all_heads):
        of_both(at, range(n), range(n))
    of_both(rectangle, *WISH.rectangles[0])
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path, dpi=80)
    print(f"drawn: {path.name}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
