"""What the examples of the pages in docs/verbs find where they run: tiny models in folders, and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.tasks.words import in_folder

SENTENCES = "what a lovely day\nnot good\n"
NAMES: dict[str, Any] = {"id2label": {0: "sad", 1: "glad"}, "label2id": {"sad": 0, "glad": 1}}


def classify(folder: Path) -> None:
    from PIL import Image
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    in_folder(folder / "my-classifier", "BertForSequenceClassification", **NAMES)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
    torch.manual_seed(0)
    ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=4, **NAMES)).save_pretrained(
        folder / "my-digits"
    )
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder / "my-digits")
    Image.new("L", (28, 28), 200).save(folder / "seven.png")
    (folder / "comments.txt").write_text(SENTENCES, encoding="utf-8")


def info(folder: Path) -> None:
    in_folder(folder / "my-classifier", "BertForSequenceClassification", **NAMES)


#  verb -> what makes its world
WORLDS: dict[str, Callable[[Path], object]] = {"classify": classify, "info": info}
