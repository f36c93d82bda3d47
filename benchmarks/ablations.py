"""What each choice of the recipe is worth: short trainings of equal budget, one thing changed in each, scored alike.

Finished ones are kept, a killed one goes on where it was, and the same command started twice shares the work: each
process takes the next one that nobody has taken.
"""

from __future__ import annotations

import argparse
import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import HERE, Report, Table, needs, parsed, parser_of, progress, stop

from polyhead.generation import Beam, Greedy
from polyhead.inputs.readers import Source, read
from polyhead.tasks.evaluate import evaluate
from polyhead.tasks.learning.train import train
from polyhead.tasks.learning.translation import prepare
from polyhead.tasks.learning.translation_recipe import read_recipe
from polyhead.tasks.load import load
from polyhead.tasks.translator import Translator
from polyhead.training.plan import plan

EXAMPLES = """\
  python benchmarks/ablations.py --list
  python benchmarks/ablations.py --minutes 15 --threads 1 &  python benchmarks/ablations.py --minutes 15 --threads 1
  python benchmarks/ablations.py --steps 2000 --only base,ema-off,smoothing-off
  python benchmarks/ablations.py --table                      the table of what is finished
  python benchmarks/ablations.py --quick                      does it run? under a minute, no figures to keep"""

TATOEBA = '{path = "zh_en_tatoeba/train.tsv.gz"}'
TATOEBA2 = '{path = "zh_en_tatoeba2/train.tsv.gz"}'
MADE = "en-to-zh/tatoeba2.tsv"  # English of the second set beside the Chinese that a model made of it
ELSEWHERE = ", ".join(
    f'{{path = "zh_en_{name}/train.tsv.gz"}}'
    for name in ("xpersona", "xrisawoz", "renpy", "asp_stories", "python_docs", "wiktionary", "cedict")
)

#  what some variants begin with: trainings as long as theirs, no rows of the table
FIRST: dict[str, dict[str, str]] = {
    "elsewhere": {"data.train": f"[{ELSEWHERE}]"},
    "en-to-zh": {"source": "en", "target": "zh", "data.columns": "[1, 2]", "data.train": f"[{TATOEBA}]"},
}
BEGINS = {"transfer": "elsewhere", "back-translation": "en-to-zh"}
VARIANTS: dict[str, dict[str, str]] = {
    "base": {},
    "base-again": {"train.seed": "2"},  # how far apart two trainings are that differ in nothing but chance
    # data
    "tatoeba-only": {"data.train": f"[{TATOEBA}]"},
    "both-tatoebas": {"data.train": f"[{TATOEBA}, {TATOEBA2}]"},
    "transfer": {"data.train": f"[{TATOEBA}]", "start": "{work}/elsewhere"},  # beside tatoeba-only
    "back-translation": {"data.train": f'[{TATOEBA}, {{path = "{{work}}/{MADE}"}}]'},  # beside tatoeba-only, too
    "traditional-kept": {"tokenizer.simplify": "false"},
    "split-pieces-0.1": {"data.split_pieces": "0.1"},
    "unigram": {"tokenizer.kind": "unigram"},
    "words-4000": {"tokenizer.size": "4000"},
    "words-12000": {"tokenizer.size": "12000"},
    "apart": {"tokenizer.joint": "false"},
    # regularisation
    "dropout-0.1": {"model.dropout": "0.1"},
    "dropout-0.2": {"model.dropout": "0.2"},
    "dropout-0.3": {"model.dropout": "0.3"},
    "attention-dropout-0.1": {"model.attention_dropout": "0.1"},
    "smoothing-off": {"train.label_smoothing": "0"},
    "smoothing-0.2": {"train.label_smoothing": "0.2"},
    "decay-off": {"train.weight_decay": "0"},
    # averaging
    "ema-off": {"train.ema_decay": "0"},
    "last-5": {"train.ema_decay": "0", "train.average_last": "5"},
    # the model
    "layers-4+4": {"model.n_layers": "4", "model.n_decoder_layers": "4"},
    "layers-6+2": {"model.n_layers": "6", "model.n_decoder_layers": "2"},
    "layers-6+3": {"model.n_layers": "6"},
    "heads-4": {"model.n_heads": "4", "model.n_decoder_heads": "4"},
    "width-384": {"model.d_model": "384", "model.d_ff": "1536", "model.decoder_d_ff": "1536"},
    # the pace
    "lr-5e-4": {"train.lr": "5e-4"},
    "lr-2e-3": {"train.lr": "2e-3"},
    "noam": {"train.schedule": "noam"},
    "wsd": {"train.schedule": "wsd"},
    "batch-750": {"data.batch_tokens": "750"},
    "batch-3000": {"data.batch_tokens": "3000"},
    "batch-6000": {"data.batch_tokens": "6000"},
}
SMALL = {  # for --quick
    "data.train": '[{path = "zh_en_tatoeba/valid.tsv.gz"}]', "tokenizer.size": "4000", "tokenizer.simplify": "false",
    "data.batch_tokens": "300", "model.d_model": "32", "model.d_ff": "64", "model.decoder_d_ff": "64",
}  # fmt: skip
DONE, BUDGET = "ablation.json", "budget.json"


@dataclass(frozen=True)
class Ablation:
    """One short training: its name, what it changes, and its folder."""

    name: str
    options: argparse.Namespace

    @property
    def folder(self) -> Path:
        return self.options.work / self.name

    def overrides(self, steps: int) -> list[tuple[str, str]]:
        """What all share, so that budgets are equal and nothing but the last weights counts; then the one thing.

        The rate rises over a quarter of the steps: with a tenth, chance decides when a short training leaves its first
        plateau, and two that differ by their seed alone end 13 BLEU apart (docs/log.md).
        """
        work, threads = self.options.work / "cache", self.options.threads
        shared = {
            "data.folder": str(self.options.data), "data.cache": str(work), "data.test": "[]",
            "data.batch_tokens": "1500",  # a short post-norm training needs updates before it needs large batches
            "train.epochs": "0", "train.steps": str(steps), "train.warmup": "0.25", "train.threads": str(threads),
            "train.watch": "loss", "evaluate.rows": "0", "train.evaluate_every": f"{max(1, steps // 10)} steps",
            "train.checkpoint_every": "2 minutes",
        }  # fmt: skip
        changed = {
            key: value.replace("{work}", str(self.options.work.resolve()))
            for key, value in (VARIANTS | FIRST)[self.name].items()
        }
        return list((shared | changed | (SMALL if self.options.quick else {})).items())

    def steps(self) -> int:
        """The steps of `--steps`, or as many as `--minutes` hold at this variant's own pace; settled once."""
        file = self.folder / BUDGET
        if self.options.steps or self.options.quick:
            return self.options.steps or 4
        if not file.is_file():
            settings = read_recipe(self.options.recipe, self.overrides(1000))
            found = plan(prepare(settings, self.folder), settings.train, seconds=20)
            assert found.seconds and found.steps
            steps = round(60 * self.options.minutes / (found.seconds / found.steps))
            file.write_text(json.dumps({"steps": steps, "minutes": self.options.minutes}), encoding="utf-8")
        return json.loads(file.read_text(encoding="utf-8"))["steps"]

    def run(self) -> None:
        """Train, score, and note the result."""
        if first := BEGINS.get(self.name):
            Ablation(first, self.options).begin()
        facts = self.trained() | self.scores()
        (self.folder / DONE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    def begin(self) -> None:
        """Train what another begins with; a model that translates into Chinese makes its pairs."""
        made = self.options.work / MADE
        if self.result() is None:
            progress(f"{self.name} ...")
            facts = self.trained()
            if made.parent == self.folder:
                write_pairs(made, self)
            (self.folder / DONE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    def trained(self) -> dict[str, float]:
        """Train, or go on with it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        result = train(self.options.recipe, overrides=self.overrides(self.steps()), out=self.folder)
        assert result
        if result.why == "interrupted":
            stop(f"{self.name} was stopped at step {result.steps}; the same command goes on from there")
        return {"steps": result.steps, "minutes": result.seconds / 60, "tokens": result.tokens}

    def scores(self) -> dict[str, float]:
        """BLEU and chrF on the recipe's valid pairs, with a beam of 4 and greedily."""
        data = read_recipe(self.options.recipe, [("data.folder", str(self.options.data))]).data
        pairs = [pair for source in data.valid for pair in read(data.read(source))][
            : 20 if self.options.quick else None
        ]
        loaded, found = load(self.folder), {}
        for name, search in {"beam": Beam(4), "greedy": Greedy()}.items():
            scores, _ = evaluate(pairs, model=loaded, search=search)
            found |= {f"{name} bleu": scores.bleu, f"{name} chrf": scores.chrf}
        return found

    def result(self) -> dict[str, float] | None:
        file = self.folder / DONE
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


@contextmanager
def taken(folder: Path) -> Iterator[bool]:
    """Whether the folder is ours to work in; the system lets go of it when the process ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def write_pairs(made: Path, model: Ablation) -> None:
    """The second set with its Chinese thrown away and made anew from its English."""
    english = [pair.source for pair in read(Source(path=model.options.data / "zh_en_tatoeba2/train.tsv.gz"))]
    texts = english[: 20 if model.options.quick else None]
    chinese = Translator(load(model.folder), search=Greedy())(texts)
    pairs = zip(texts, chinese, strict=True)
    made.write_text("".join(f"{en}\t{zh.text}\n" for en, zh in pairs if zh.text.strip()), encoding="utf-8")


def table(found: dict[str, dict[str, Any]]) -> Table:
    """Scores, and gains against the base."""
    base = found.get("base")
    rows: list[list[str]] = []
    for name, facts in found.items():
        row = [name]
        for score in ("beam bleu", "beam chrf", "greedy bleu"):
            gain = "" if base is None or name == "base" else f"{facts[score] - base[score]:+.1f}"
            row += [f"{facts[score]:.1f}", gain]
        tokens = f"{facts['tokens'] / 1e6:.1f}M"
        rows.append([*row, f"{facts['steps']:,}", tokens, f"{facts['minutes']:.0f}"])
    head = ("changed", "BLEU", "gain", "chrF", "gain", "BLEU, greedy", "gain", "steps", "tokens", "minutes")
    return Table("Short trainings of equal budget, one thing changed, valid pairs", head, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("ablations", __doc__ or "", EXAMPLES, rounds=0, threads=1)
    recipe, data, work = HERE.parent / "recipes" / "zh-en.toml", Path("../shared/data"), Path("runs/ablations")
    parser.add_argument("--recipe", type=Path, default=recipe, help="the base (default recipes/zh-en.toml)")
    parser.add_argument("--data", type=Path, default=data, help="its data.folder (default %(default)s)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, default=15, help="of training each, at its own pace (default 15)")
    budget.add_argument("--steps", type=int, default=0, help="of each, instead of minutes")
    parser.add_argument("--only", help="some of them: base,ema-off,...")
    parser.add_argument("--work", type=Path, default=work, help="where they are kept (default %(default)s)")
    parser.add_argument("--list", action="store_true", help="name them all and stop")
    parser.add_argument("--table", action="store_true", help="show the table of what is finished and stop")
    options = parsed(parser, arguments)
    if options.list:
        print(
            "\n".join(f"{name:22} {' '.join('='.join(pair) for pair in VARIANTS[name].items())}" for name in VARIANTS)
        )
        return
    names = options.only.split(",") if options.only else ["base", "ema-off"] if options.quick else list(VARIANTS)
    if unknown := sorted(set(names) - set(VARIANTS)):
        stop(f"There is no ablation {', '.join(unknown)}; --list names them all")
    report = Report("What each choice is worth", options)
    if not options.table:
        run([Ablation(name, options) for name in names], options)
    finished = {name: facts for name in VARIANTS if (facts := Ablation(name, options).result())}
    report.tables, report.raw = [table(finished)], finished
    report.finish(
        "`base-again` differs from `base` by its seed only: what its own gain exceeds or equals says nothing."
    )


def run(ablations: Sequence[Ablation], options: argparse.Namespace) -> None:
    """All that are not finished and that no other process is at."""
    needs(options.data, "the folder of the recipe's data with --data")
    torch.set_num_threads(options.threads)
    for ablation in ablations:
        with taken(ablation.folder) as ours:
            if ours and ablation.result() is None:
                progress(f"{ablation.name} ...")
                ablation.run()


if __name__ == "__main__":
    main()
