"""Training speed: the same sizes and batches in polyhead, a plain torch.nn.Transformer loop and transformers' Trainer.

Source and target tokens a second, padding not counted. polyhead runs the recipe's own task and step, and makes each
batch on the way; the others get the batches ready-made.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common import (
    APART,
    HERE,
    PARTS,
    Engine,
    Report,
    Table,
    apart,
    interleaved,
    needs,
    parsed,
    parser_of,
    ratio,
    shares,
    spread,
    told,
)

EXAMPLES = """\
  python benchmarks/train.py --data ../shared/data
  python benchmarks/train.py --steps 40 --precisions bf16
  python benchmarks/train.py --quick             does it run? under a minute, no figures to keep"""

KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
NOTES = (
    "Tokens of source and target a second, padding not counted; the median of all rounds, and from the lowest to the "
    "highest as a share of it. The ratio is to the plain loop in fp32.",
    "The plain loop is pre-norm and computes its loss on every position, as most loops do. All use AdamW, dropout, "
    "label smoothing and clipping; bf16 is autocast, weights stay in float32.",
    "polyhead's training keeps the memory that it frees. The others run as they come, and once more with memory kept, "
    "which their environment asks of glibc: " + ", ".join(f"{name}={value}" for name, value in KEPT.items()) + ".",
    APART + " In training, the rest has the loss and AdamW too.",
)
ENGINES: dict[str, tuple[str, dict[str, str]]] = {  # its module, and its environment
    "polyhead": ("train_polyhead", {}),
    "torch.nn.Transformer loop": ("train_torch", {}),
    "torch.nn.Transformer loop, memory kept": ("train_torch", KEPT),
    "transformers Trainer": ("train_trainer", {}),
    "transformers Trainer, memory kept": ("train_trainer", KEPT),
}
BASE = "torch.nn.Transformer loop, fp32"
SMALL = {  # for --quick: the vocabulary and the task in seconds
    "data.train": '[{path = "zh_en_tatoeba/valid.tsv.gz"}]', "tokenizer.size": "4000", "tokenizer.simplify": "false",
    "data.batch_tokens": "300", "model.d_model": "32", "model.d_ff": "64", "model.decoder_d_ff": "64",
    "train.warmup": "2",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("train", __doc__ or "", EXAMPLES)
    recipe = HERE.parent / "recipes" / "zh-en.toml"
    parser.add_argument("--recipe", type=Path, default=recipe, help="default recipes/zh-en.toml")
    data = Path("../shared/data")
    parser.add_argument("--data", type=Path, default=data, help="the recipe's data.folder (default %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="batches a measurement (default %(default)s)")
    parser.add_argument("--precisions", default="fp32,bf16", help="fp32, bf16 or both (default %(default)s)")
    work = Path("runs/bench-train")
    parser.add_argument("--work", type=Path, default=work, help="keeps the vocabulary and ids (default %(default)s)")
    options = parsed(parser, arguments)
    needs(options.data, "the folder of the recipe's data with --data")
    report = Report("Training speed", options)
    with tempfile.TemporaryDirectory() as folder:
        steps = 2 if options.quick else options.steps
        running, tokens = engines(options, Path(folder), steps)
        asks = {name: partial(engine.ask, "learn", count=steps) for name, engine in running.items()}
        answers = interleaved(asks, rounds=options.rounds, say=f"{steps} steps")
        parts = apart(asks, answers, say=f"{steps} steps")
        for engine in running.values():
            engine.close()
    speeds = {name: [tokens / answer["seconds"] for answer in each] for name, each in answers.items()}
    base = speeds.get(BASE) or next(iter(speeds.values()))
    rows = [
        [name, f"{statistics.median(s):,.0f}", spread(s), ratio(s, base), *shares(parts, name)]
        for name, s in speeds.items()
    ]
    title = f"{options.recipe.stem}: {steps} batches of {tokens // steps:,} tokens"
    report.tables.append(Table(title, ("engine", "tokens/s", "spread", "ratio", *PARTS), rows))
    report.raw |= {
        "parts": told(parts),
        "tokens/s": speeds,
        "loss": {name: [a["loss"] for a in each] for name, each in answers.items()},
    }
    report.finish(*NOTES)


def engines(options: Any, folder: Path, steps: int) -> tuple[dict[str, Engine], int]:
    """Every engine in every precision, ready to learn; and the tokens of the batches."""
    work, threads = (folder if options.quick else options.work), options.threads
    overrides = {"data.folder": str(options.data), "data.cache": str(work / "cache"), "train.threads": str(threads)}
    overrides |= SMALL if options.quick else {}
    recipe = {"recipe": str(options.recipe), "overrides": list(overrides.items()), "out": str(work)}
    path = str(folder / "batches.npz")
    running: dict[str, Engine] = {}
    sizes, tokens = {}, 0
    for precision in options.precisions.split(","):
        for engine, (module, environment) in ENGINES.items():
            found = running[f"{engine}, {precision}"] = Engine(module, threads=threads, **environment)
            if engine == "polyhead":
                sizes = found.ask("load", precision=precision, **recipe)
                tokens = found.ask("write_batches", path=path, count=steps)
            else:
                found.ask("load", sizes=sizes, path=path, threads=threads, precision=precision)
    return running, tokens


if __name__ == "__main__":
    main()
