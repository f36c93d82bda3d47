"""Hearing speed: 30 seconds of sound through Whisper (base), the same weights in every engine; seconds, and how many
times faster than the sound."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    APART,
    AT_HAND,
    PARTS,
    Engine,
    Report,
    Table,
    apart,
    interleaved,
    parsed,
    parser_of,
    ratio,
    shares,
    spread,
    told,
)

from polyhead.benchmark.result import Parts

EXAMPLES = """\
  python benchmarks/hear.py                         greedy, then with a beam of 5; ten minutes on two cores
  python benchmarks/hear.py --beams 1 --engines polyhead,CTranslate2
  python benchmarks/hear.py --quick                 does it run? seconds, no figures to keep"""

BASE = {
    "d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 8,
    "decoder_attention_heads": 8, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048,
}  # fmt: skip
TINY = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
}  # fmt: skip
WORDS, SIGNS = 51_865, 10  # the last words are signs, as engines/random_folder.py lays them out
ENGINES = {
    "polyhead": ("hear_polyhead", "fp32"),
    "polyhead, bf16": ("hear_polyhead", "bf16"),
    "polyhead, int8": ("hear_polyhead", "int8"),
    "transformers": ("hear_transformers", "fp32"),
    "CTranslate2 float32": ("hear_ctranslate2", "float32"),
    "CTranslate2 int8": ("hear_ctranslate2", "int8"),
}
NOTES = (
    "Seconds from the picture of the sound (80 bands, 3,000 frames of noise) to the tokens, all engines writing as"
    " many; the median of all rounds, and from the lowest to the highest as a share of it. The ratio is transformers'"
    " time to this one's, the median of the rounds' own ratios.",
    AT_HAND,
    APART,
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("hear", __doc__ or "", EXAMPLES)
    parser.add_argument("--beams", default="1,5", help="widths of the beam, 1 is greedy (default %(default)s)")
    parser.add_argument("--new", type=int, default=100, help="tokens that are written (default %(default)s)")
    parser.add_argument("--engines", default="all", help="the beginnings of their names, with commas (default all)")
    options = parsed(parser, arguments)
    sizes, words = (TINY, 200) if options.quick else (BASE, WORDS)
    if options.quick:
        options.new = 5
    names = [name for name in ENGINES if options.engines == "all" or name.startswith(tuple(options.engines.split(",")))]
    report = Report("Hearing speed", options)
    running: dict[str, Engine] = {}
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder).resolve() / "sound.npy"
        np.save(sound, np.random.default_rng(0).standard_normal((1, 80, 3000), np.float32))
        model = Path(folder).resolve() / "model"
        end = words - SIGNS
        ends = {"pad_token_id": end, "bos_token_id": end, "eos_token_id": end, "decoder_start_token_id": end + 1}
        maker = Engine("random_folder", threads=options.threads)
        maker.ask("write", folder=str(model), kind="whisper", vocab_size=words, num_mel_bins=80, **sizes, **ends)
        maker.close()
        for name in names:
            module, precision = ENGINES[name]
            running[name] = Engine(module, threads=options.threads)
            running[name].ask("load", model=str(model), threads=options.threads, precision=precision)
        how = {"path": str(sound), "prompt": [end + 1, end + 2, end + 5, end + 9], "new": options.new, "end": end}
        for beams in map(int, options.beams.split(",")):
            asks: dict[str, Callable[[], Any]] = {
                name: partial(engine.ask, "hear", beams=beams, **how) for name, engine in running.items()
            }
            answers = interleaved(asks, rounds=options.rounds, say=f"{beams} beams")
            parts = apart(asks, answers, say=f"{beams} beams")
            report.tables.append(table(options, beams, answers, parts))
            seconds = {name: [each["seconds"] for each in found] for name, found in answers.items()}
            report.raw[report.tables[-1].title] = {"seconds": seconds, "parts": told(parts)}
    for engine in running.values():
        engine.close()
    report.finish(*NOTES)


def table(options: Any, beams: int, answers: dict[str, list[Any]], parts: dict[str, Parts]) -> Table:
    base = "transformers" if "transformers" in answers else next(iter(answers))
    speeds = {name: [30 / each["seconds"] for each in found] for name, found in answers.items()}
    wanted = answers[base][-1]["rows"]
    lines: list[list[str]] = []
    for name, speed in speeds.items():
        rows = answers[name][-1]["rows"]
        assert {len(row) for row in rows} == {options.new}, f"{name} wrote {sorted(map(len, rows))}"
        seconds = statistics.median(30 / each for each in speed)
        same = "yes" if rows == wanted else "no"
        times = f"{statistics.median(speed):,.1f}x"
        figures = [f"{seconds:,.2f}", times, spread(speed), ratio(speed, speeds[base]), same]
        lines.append([name, *figures, *shares(parts, name)])
    title = f"30 seconds of sound, {options.new} tokens, {'greedy' if beams == 1 else f'a beam of {beams}'}"
    return Table(title, ("engine", "seconds", "of real time", "spread", "ratio", "same tokens", *PARTS), lines)


if __name__ == "__main__":
    main()
