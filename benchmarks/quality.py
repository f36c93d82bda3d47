"""How good the translations are: BLEU and chrF of a model on held-out pairs, and of the plain loop's on the same rows.

Scored on the rows whose script is `simp` or `same` (one reference each), as the BASELINE was, and on the whole file.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import baseline
import torch
from common import Report, Table, needs, parsed, parser_of, progress, stop

from polyhead.generation import Beam, Greedy
from polyhead.inputs.readers import Example, Source, read
from polyhead.tasks.evaluate import Scores, score
from polyhead.tasks.load import find, load, ready, shipped
from polyhead.tasks.shortlist import Shortlist, shortlist
from polyhead.tasks.translator import Translator

EXAMPLES = """\
  python benchmarks/quality.py                                          zoo/zh-en on the test file
  python benchmarks/quality.py --model runs/zh-en --model runs/tatoeba-only --files valid,test
  python benchmarks/quality.py --baseline runs/baseline                 and the plain loop's, trained first if need be
  nohup python benchmarks/quality.py --baseline runs/baseline --minutes 60 --threads 1 &
  python benchmarks/quality.py --shortlists 30,100 --precisions fp32    and with fewer words
  python benchmarks/quality.py --quick --model runs/zh-en"""

SIMPLIFIED = ("simp", "same")
Translate = Callable[[Sequence[str]], list[str]]


def pairs(path: Path, *scripts: str) -> list[Example]:
    """Chinese and English of a file; only rows of these scripts, where some are named."""
    where: dict[int | str, Sequence[str]] = {4: scripts} if scripts else {}
    return list(read(Source(path=needs(path, "the folder of its data with --data"), columns=(2, 1), where=where)))


def ours(folder: str, precisions: Sequence[str], lists: Sequence[int], train: Path) -> dict[str, Translate]:
    """A model's two ways to translate, in each precision, and with short-lists of so many words for a token."""
    loaded, name = load(folder), find(folder).name

    def by(search: Beam | Greedy, precision: str, few: Shortlist | None) -> Translate:
        made = ready(loaded, precision=precision)  # pyright: ignore[reportArgumentType]
        translator = Translator(made, search=search, shortlist=few)
        return lambda lines: [translation.text for translation in translator(lines)]

    words = {"": None} | {f", {k} words a token": shortlist(pairs(train), model=loaded, best=k) for k in lists}
    searches = {"beam 4": Beam(4), "greedy": Greedy()}
    return {
        f"{name}, {how}, {p}{what}": by(search, p, few)
        for p in precisions
        for how, search in searches.items()
        for what, few in words.items()
    }


def plain(options: argparse.Namespace, folder: Path) -> dict[str, Translate]:
    """The plain loop's one way, after training it where `folder` does not hold it yet."""
    if not (folder / "model.safetensors").is_file():
        train = [(pair.source, pair.target) for pair in pairs(options.data / "train.tsv.gz")]
        train, epochs = (train[:200], 1) if options.quick else (train, baseline.EPOCHS)
        done = baseline.train(train, folder, minutes=options.minutes, say=progress, epochs=epochs)
        (folder / "done.txt").write_text(done + "\n", encoding="utf-8")
    done = (folder / "done.txt").read_text(encoding="utf-8").strip()
    return {f"plain nn.Transformer loop ({done}), greedy": baseline.load(folder)}


def scored(ways: dict[str, Translate], path: Path, count: int | None) -> tuple[Table, list[Scores]]:
    """Every way's scores on a file: the simplified rows, and all."""
    whole = pairs(path)[:count]
    wanted = {pair.line for pair in pairs(path, *SIMPLIFIED)}
    some = [i for i, pair in enumerate(whole) if pair.line in wanted]
    rows: list[list[str]] = []
    found: list[Scores] = []
    for name, translate in ways.items():
        progress(f"{path.name}: {name}")
        texts = translate([pair.source for pair in whole])
        both = [
            score([texts[i] for i in places], [whole[i].target for i in places]) for places in (some, range(len(whole)))
        ]
        rows.append([name, *(f"{value:.1f}" for scores in both for value in (scores.bleu, scores.chrf))])
        found += both
    subset, file = f"{'+'.join(SIMPLIFIED)} ({len(some)})", f"all ({len(whole)})"
    head = ("model", f"BLEU, {subset}", f"chrF, {subset}", f"BLEU, {file}", f"chrF, {file}")
    return Table(path.name, head, rows), found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("quality", __doc__ or "", EXAMPLES, rounds=0)
    parser.add_argument("--model", action="append", help="a folder or a name, again and again (default: what ships)")
    data = Path("../shared/data/zh_en_tatoeba")
    parser.add_argument("--data", type=Path, default=data, help="where the .tsv.gz files are (default %(default)s)")
    parser.add_argument("--files", default="test", help="test, valid or both (default %(default)s)")
    parser.add_argument("--baseline", type=Path, metavar="FOLDER", help="the plain loop too; trained if not there")
    parser.add_argument("--minutes", type=float, default=0, help="the most that training it may take (default: no end)")
    parser.add_argument("--precisions", default="fp32,bf16,int8", help="of our models (default %(default)s)")
    lists = "also with lists of the 100 most frequent words and so many for each token, learned from train.tsv.gz"
    parser.add_argument("--shortlists", default="", metavar="K,K,...", help=f"{lists} (default: none)")
    options = parsed(parser, arguments)
    torch.set_num_threads(options.threads)
    report = Report("Quality of translations", options)
    ways: dict[str, Translate] = {}
    for folder in options.model or shipped():
        lists = [int(size) for size in options.shortlists.split(",") if size]
        ways |= ours(folder, options.precisions.split(","), lists, options.data / "train.tsv.gz")
    if not ways and not options.baseline:
        stop("There is nothing to score: no model ships yet; give --model or --baseline")
    with tempfile.TemporaryDirectory() as aside:
        if options.baseline:
            ways |= plain(options, Path(aside) if options.quick else options.baseline)
        signatures: set[str] = set()
        for name in options.files.split(","):
            table, found = scored(ways, options.data / f"{name}.tsv.gz", 30 if options.quick else None)
            report.tables.append(table)
            signatures |= {text for scores in found for text in (scores.bleu_signature, scores.chrf_signature)}
    report.finish("sacreBLEU's signatures: " + ", ".join(f"`{text}`" for text in sorted(signatures)))


if __name__ == "__main__":
    main()
