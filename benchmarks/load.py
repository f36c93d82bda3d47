"""Loading: a folder of half a gigabyte, from its path to a model; beside reading its file once, and transformers."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import Engine, Report, Table, parsed, parser_of, progress, spread

EXAMPLES = """\
  python benchmarks/load.py                         GPT-2 (small) and BERT-base; two minutes
  python benchmarks/load.py --quick                 does it run? seconds, no figures to keep"""

KINDS: dict[str, dict[str, int]] = {
    "gpt2": {"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50_257, "bos_token_id": 1, "eos_token_id": 1},
    "bert": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
TINY: dict[str, dict[str, int]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 100, "bos_token_id": 1, "eos_token_id": 1},
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
}
VERBS = {"reading the file once": "read", "polyhead": "polyhead", "transformers": "transformers"}
NOTES = (
    "Each measurement is a process of its own, which has loaded a tiny model of the same kind before the clock starts;"
    " the file lies in the system's memory, as after it was written. It is read once into a new buffer of its size."
    " polyhead maps it, and nothing is read before it is asked for: so compare where every byte was touched, by the sum"
    " of all weights. Ready is when the matrices are laid out for products, which polyhead does once, before the first"
    " answer; transformers uses them as they are. The median of all rounds; the ratio is transformers' time to this"
    " one's.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("load", __doc__ or "", EXAMPLES)
    options = parsed(parser, arguments)
    report = Report("Loading", options)
    with tempfile.TemporaryDirectory() as folder:
        for kind, sizes in (TINY if options.quick else KINDS).items():
            model, tiny = (Path(folder).resolve() / name for name in (kind, f"tiny-{kind}"))
            maker = Engine("random_folder", threads=options.threads)
            maker.ask("write", folder=str(model), kind=kind, **sizes)
            maker.ask("write", folder=str(tiny), kind=kind, **TINY[kind])
            maker.close()
            found: dict[str, list[Any]] = {name: [] for name in VERBS}
            for n in range(options.rounds):
                progress(f"{kind}: round {n + 1} of {options.rounds}")
                for name, verb in VERBS.items():
                    engine = Engine("loading", threads=options.threads)
                    engine.ask(verb, model=str(tiny), threads=options.threads)  # imports, and nothing of this file
                    found[name].append(engine.ask(verb, model=str(model), threads=options.threads))
                    engine.close()
            report.tables.append(table(kind, (model / "model.safetensors").stat().st_size, found))
            report.raw[kind] = found
    report.finish(*NOTES)


def table(kind: str, size: int, found: dict[str, list[Any]]) -> Table:
    seconds = {name: [each["seconds"] for each in answers] for name, answers in found.items()}
    once, theirs = (statistics.median(seconds[name]) for name in ("reading the file once", "transformers"))
    rows: list[list[str]] = []
    for name, each in seconds.items():
        middle = statistics.median(each)
        touched, ready = (
            f"{statistics.median(x[key] for x in found[name]):.3f} s" if key in found[name][0] else ""
            for key in ("touched", "ready")
        )
        rows.append(
            [name, f"{middle:.3f} s", spread(each), f"{theirs / middle:.2f}x", f"{middle / once:.2f}", touched, ready]
        )
    head = ("what", "time", "spread", "ratio", "of reading it", "every byte touched", "ready")
    return Table(f"{kind}, {size / 1e6:,.0f} MB", head, rows)


if __name__ == "__main__":
    main()
