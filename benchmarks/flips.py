"""Does a sentence keep its words whatever it shares a batch with? Translations that differ from those made alone.

A product of matrices may round differently for another number of rows, and one bit decides where two words are as
good. Counted for packed products, with which polyhead translates, and for plain ones; greedy and with a beam of 4.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice, repeat
from pathlib import Path

import torch
from common import Report, Table, parsed, parser_of, progress
from workloads import SHAPE, TINY, add_options, log_uniform, made_up, real, trained, write_random_model

from polyhead.generation import Beam, Greedy
from polyhead.tasks.load import Loaded, load
from polyhead.tasks.translator import Translator

EXAMPLES = """\
  python benchmarks/flips.py                        zoo/zh-en, 500 sentences of the test file
  python benchmarks/flips.py --model runs/zh-en --data ../shared/data/zh_en_tatoeba/test.tsv.gz
  python benchmarks/flips.py --random               random weights in Marian's shape
  python benchmarks/flips.py --quick                does it run? seconds"""

NOTES = (
    "Of the sentences in each row's batches, how many got other tokens than alone (a batch of one).",
    "plain: `F.linear`; packed: weights laid out once for oneDNN, as polyhead translates.",
)
Rows = Sequence[list[int]]
WAYS = {  # the order of the sentences, and the sizes of the batches they are cut into; 0: 1 to 64, at random
    "7 as they come": ("as they come", 7),
    "16 by length": ("by length", 16),
    "64 by length": ("by length", 64),
    "64 shuffled": ("shuffled", 64),
    "1 to 64 shuffled": ("shuffled", 0),
}


def batches(sources: Rows, order: str, size: int) -> Iterator[list[int]]:
    """Places in the input, batch by batch."""
    draw = random.Random(0)
    places = list(range(len(sources)))
    if order == "by length":
        places.sort(key=lambda place: -len(sources[place]))
    elif order == "shuffled":
        draw.shuffle(places)
    sizes = repeat(size) if size else iter(lambda: draw.randint(1, 64), None)
    left = iter(places)
    return iter(lambda: list(islice(left, next(sizes))), [])


def translated(translator: Translator, sources: Rows, cut: Iterator[list[int]]) -> list[list[int]]:
    """The tokens of every source, in the input's order."""
    found: dict[int, list[int]] = {}
    for places in cut:
        answers = translator.batch([sources[place] for place in places])
        found.update(zip(places, (answer[0].tokens for answer in answers), strict=True))
    return [found[place] for place in range(len(sources))]


def flips(loaded: Loaded, sources: Rows, *, plain: bool, beams: int, max_new: int | None) -> dict[str, int]:
    """For each way to make batches, how many translations change."""
    translator = Translator(loaded, search=Beam(beams) if beams > 1 else Greedy(), max_new=max_new)
    if plain:
        translator.model = loaded.model
    alone = translated(translator, sources, batches(sources, "as they come", 1))
    counts: dict[str, int] = {}
    for name, (order, size) in WAYS.items():
        progress(f"{'plain' if plain else 'packed'}, {beams} beams, {name}")
        together = translated(translator, sources, batches(sources, order, size))
        counts[name] = sum(a != b for a, b in zip(alone, together, strict=True))
    return counts


def table(loaded: Loaded, sources: Rows, name: str, max_new: int | None) -> Table:
    counts = {
        f"{products}, {search}": flips(loaded, sources, plain=products == "plain", beams=beams, max_new=max_new)
        for products in ("packed", "plain")
        for search, beams in (("greedy", 1), ("beam", 4))
    }
    rows = [[way, *(str(found[way]) for found in counts.values())] for way in WAYS]
    total = ["in all", *(str(sum(found.values())) for found in counts.values())]
    return Table(f"{name}: {len(sources)} sentences", ("batches", *counts), [*rows, total])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("flips", __doc__ or "", EXAMPLES, rounds=0)
    add_options(parser, searches=False)
    parser.add_argument("--sentences", type=int, default=500, help="how many (default %(default)s)")
    options = parsed(parser, arguments)
    torch.set_num_threads(options.threads)
    report = Report("Translations that change with their batch", options)
    count = 20 if options.quick else options.sentences
    if model := trained(options):
        workload = real(model, options.data, count)
        report.tables.append(table(load(model), workload.sources, model.name, None))
    else:
        shape = TINY if options.quick else SHAPE
        sources = made_up(shape["words"], log_uniform(count, 4, 60))
        with tempfile.TemporaryDirectory() as folder:
            loaded = load(write_random_model(Path(folder) / "random", shape, options.threads))
            report.tables.append(table(loaded, sources, "random weights", 30))
    report.finish(*NOTES)


if __name__ == "__main__":
    main()
