"""Draws docs/pictures/heads.png from what two commands wrote (docs/heads.md): python heads.py MINILM.json ZH-EN.json

Needs matplotlib (the extra `bench`).
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def read(path: str) -> tuple[dict[str, Any], Any]:
    told = json.loads(Path(path).read_text("utf-8"))
    values = np.array(told["values"], float)
    keys = [metric["key"] for metric in told["metrics"]]
    return told, lambda key, part: values[[c["part"] == part for c in told["calls"]]][..., keys.index(key)]


def grid(axes: Any, numbers: Any, title: str, low: float, high: float) -> None:
    axes.imshow(numbers, cmap="cividis", vmin=low, vmax=high, aspect="auto")
    for (layer, head), x in np.ndenumerate(numbers):
        dark = (x - low) / (high - low) < 0.6
        axes.text(head, layer, f"{x:.2f}".replace("0.", "."), ha="center", va="center", fontsize=6.5,
                  color="white" if dark else "black")  # fmt: skip
    axes.set(title=title, xlabel="head", ylabel="layer", yticks=range(len(numbers)), xticks=range(numbers.shape[1]))
    axes.title.set_fontsize(9)


small, of_small = read(sys.argv[1])
translator, of_translator = read(sys.argv[2])
figure, ((a, b), (c, d)) = plt.subplots(2, 2, figsize=(10, 6.4), layout="constrained")
grid(a, of_small("special", "encoder"), "MiniLM: weight on [CLS] and [SEP]", 0, 1)
grid(b, of_translator("itself", "encoder"), "zh-en, encoder: weight on the token itself", 0, 1)
grid(c, of_translator("alignment", "cross"), "zh-en, cross: moves on with the translation", 0, 1)
best: dict[str, Any] = {}
for each in small["syntax"]["best"]:
    if each["pairs"] >= 180 and each["margin"] > best.get(each["relation"], {"margin": -100})["margin"]:
        best[each["relation"]] = each
some = list(best.values())[:12][::-1]
places = np.arange(len(some))
score, baseline = (np.array([each[key] for each in some]) for key in ("score", "baseline"))
ends = np.array([[each["score"] - each["low"], each["high"] - each["score"]] for each in some]).T
d.barh(
    places,
    score,
    xerr=ends,
    color="#2c4678",
    ecolor="#888888",
    height=0.6,
    label="best head, chosen on other sentences",
)
d.plot(baseline, places, "o", color="#ffb000", label="best fixed offset")
names = [f"{each['relation']}  {each['call'].split('.')[2]}.{each['head']}" for each in some]
d.set(yticks=places, yticklabels=names, xlim=(0, 100), ylim=(-2.6, len(some) - 0.4), xlabel="pairs found, %")
d.set_title("MiniLM against UD English EWT (dev): relation, layer.head", fontsize=9)
d.legend(fontsize=7, loc="lower right")
figure.savefig(Path(__file__).with_name("heads.png"), dpi=110)
