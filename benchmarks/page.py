"""The page of a long recording: how soon its first picture is there, and how long and large each answer is."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common import Engine, Report, Table, parsed, parser_of, progress

EXAMPLES = """\
  python benchmarks/page.py                       32,768 tokens, 12 layers of 12 heads: a file of 2.6 GB in --folder
  python benchmarks/page.py --tokens 8192 --layers 4
  python benchmarks/page.py --quick               does it run? seconds, no figures to keep"""


def requests(tokens: int, layers: int) -> Iterator[tuple[str, str]]:
    """What a person does, in order, and what the page then asks for."""
    far, level = tokens - 1, max((-(-tokens // 256) - 1).bit_length(), 0)
    yield "the page itself", ""
    yield "what there is", "scene.json"
    yield "thumbnails of the first layer", "thumbs/0.bin"
    yield "labels of 2,048 places", "ruler/0/0.json"
    for n in range(1, layers):
        yield "thumbnails of each other layer", f"thumbs/{n}.bin"
    yield "finer thumbnails of a layer", "thumbs/0/fine.bin"
    yield "the whole map of a head", f"tile/0/5/0/{level}/0/0.bin"
    yield "the same, weight x value norm", f"tile/0/5/1/{level}/0/0.bin"
    for i, j in ((0, 0), (tokens // 512, tokens // 512), (tokens // 256 - 1, 3)):
        yield "the closest view, one tile", f"tile/0/5/0/0/{i}/{j}.bin"
    for query in (0, far // 2, far):
        yield "the strongest links of a word", f"row/0/5/0/{query}.bin"
        yield "the words that look at a word", f"column/0/5/0/{query}.bin"
        yield "one pair, worked out", f"cell/0/5/{query}/0.bin"
    yield "a head of another layer", f"row/{layers - 1}/0/0/{far}.bin"
    yield "metrics of all heads", "metrics.bin"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("page", __doc__ or "", EXAMPLES)
    parser.add_argument("--tokens", type=int, default=32_768, help="of the recording (default %(default)s)")
    parser.add_argument("--layers", type=int, default=12, help="of the recording (default %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the recording is written for a while (default: a temporary)")
    options = parsed(parser, arguments)
    if options.quick:
        options.tokens, options.layers, options.rounds = 1024, 2, 1
    report = Report("page", options)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = str(Path(folder) / "long.safetensors")
        maker = Engine("paged", threads=options.threads)
        progress(f"recording {options.tokens:,} tokens")
        made = maker.ask(
            "make", path=path, tokens=options.tokens, layers=options.layers, heads=12, threads=options.threads
        )
        maker.close()
        rounds = [measured(options, path) for _ in range(options.rounds)]
        seen = [looked_at(options, path) for _ in range(options.rounds)]
    report.raw |= {"recording": made, "rounds": rounds, "browser": seen}
    report.tables = [table_of(options, rounds), browser_table(options, seen)]
    first = [sum(r["seconds"] for r in found[:4]) for found in rounds]
    largest = max(r["bytes"] for found in rounds for r in found)
    report.finish(
        f"From the path of the recording ({made['bytes'] / 1e9:.2f} GB) to the first picture (opened, page, scene and"
        f" thumbnails of one layer): {statistics.median(first):.2f} s, at most {max(first):.2f} s. Largest answer that"
        f" travelled: {largest:,} bytes, the page itself aside"
        f" {max(r['bytes'] for found in rounds for r in found if r['what'] != 'the page itself'):,}."
        " Each round is a process of its own; the file lies in the system's memory, as after it was written."
        f" All {options.layers} layers are one layer of a random model, written so many times."
    )


def measured(options: argparse.Namespace, path: str) -> list[dict[str, Any]]:
    """One round: a fresh process opens the recording and is asked."""
    engine = Engine("paged", threads=options.threads)
    progress("opening")
    found = [{"what": "opening", "path": "", "bytes": 0} | engine.ask("open", path=path, threads=options.threads)]
    for what, asked in requests(options.tokens, options.layers):
        found.append({"what": what, "path": asked} | engine.ask("ask", path=asked))
    engine.close()
    return found


def looked_at(options: argparse.Namespace, path: str) -> dict[str, Any]:
    """One round in a browser that already runs: a fresh server, whose page is opened and dragged."""
    browser = Engine("browsed", threads=options.threads)
    version = browser.ask("begin")
    server = Engine("paged", threads=options.threads)
    progress("looking")
    opened = server.ask("open", path=path, threads=options.threads)
    found = browser.ask("first", address=opened["address"]) | {"opening": opened["seconds"], "browser": version}
    found["pan"] = browser.ask("pan", steps=120)
    browser.ask("end")
    browser.close()
    server.close()
    return found


def browser_table(options: argparse.Namespace, seen: Sequence[dict[str, Any]]) -> Table:
    def line(what: str, values: Sequence[float], form: str) -> list[str]:
        return [what, form.format(statistics.median(values)), form.format(max(values))]

    whole = [each["opening"] + each["picture"] for each in seen]
    rows = [
        line("from the path of the recording to the first picture", whole, "{:.2f} s"),
        line("of that in the browser, from asking for the page", [each["picture"] for each in seen], "{:.2f} s"),
        line("requests before the picture", [each["before"] for each in seen], "{:.0f}"),
        line("requests until nothing more is asked", [each["requests"] for each in seen], "{:.0f}"),
        line("largest answer, as it travels", [each["largest"] / 1000 for each in seen], "{:.1f} kB"),
        line(
            "script a frame while dragged, median of the frames", [each["pan"]["median"] for each in seen], "{:.2f} ms"
        ),
        line("the same, worst frame", [each["pan"]["worst"] for each in seen], "{:.2f} ms"),
    ]
    title = f"In Chromium {seen[0]['browser']}, {12 * options.layers} heads"
    return Table(title, ["", "median", "worst round"], rows)


def table_of(options: argparse.Namespace, rounds: Sequence[Sequence[dict[str, Any]]]) -> Table:
    kinds = list(dict.fromkeys(each["what"] for each in rounds[0]))
    rows: list[list[str]] = []
    for kind in kinds:
        some = [each for found in rounds for each in found if each["what"] == kind]
        seconds, most = [each["seconds"] for each in some], max(each["bytes"] for each in some)
        rows.append(
            [
                kind, f"{1000 * statistics.median(seconds):,.1f} ms", f"{1000 * max(seconds):,.1f} ms",
                f"{most / 1000:,.1f} kB" if most else "",
            ]
        )  # fmt: skip
    title = f"{options.tokens:,} tokens, {options.layers} layers of 12 heads, causal"
    return Table(title, ["what is asked for", "median", "slowest", "travels"], rows)


if __name__ == "__main__":
    main()
