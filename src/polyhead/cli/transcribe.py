"""`polyhead transcribe`: sound files go in, the words that are said in them come out, with times or as subtitles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from polyhead.cli import options
from polyhead.cli.door import lines, output, working
from polyhead.cli.screen import bar, one_line, say, shower, to_json
from polyhead.errors import ArgumentError, did_you_mean

if TYPE_CHECKING:
    from polyhead.generation import Search
    from polyhead.tasks.hearing.transcriber import Transcriber
    from polyhead.tasks.hearing.transcript import Transcript

FORMATS = ("text", "srt", "vtt")
AT_ONCE = 16  # files whose transcripts are written together


def transcribe(
    sounds: Annotated[list[str] | None, typer.Argument(metavar="FILE", help="Sound files.")] = None,
    model: options.NeededModel = "",
    input_file: options.Input = None,
    language: Annotated[
        str | None, typer.Option("--language", show_default="heard", help="What is spoken: zh, Chinese, en, ...")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", show_default="transcribe", help="transcribe, or translate into English.")
    ] = None,
    times: Annotated[
        str | None, typer.Option("--times", show_default="none", help="Times of segments, or of words too.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="text, or subtitles of one sound: srt or vtt.")] = "text",
    beam: Annotated[
        int | None,
        typer.Option("--beam", min=1, max=1000, show_default="the model's, or 1", help="Search with a beam."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="TEXT", help="Words that stand before, such as names to spell so.")
    ] = None,
    carry: Annotated[
        bool, typer.Option("--carry", help="Tell each window of a long sound what was said in those before it.")
    ] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Take every first answer: read nothing again, leave nothing out.")
    ] = False,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    as_json: options.Json = False,
    output_file: options.Output = None,
) -> None:
    """Write down what is said in sound files.

    One line for each file; with --times one for each segment or word, its times before it. A long sound is heard in
    windows of 30 seconds, each from where the last segment ended. What was left out is said beside the output.

    **Examples**

        polyhead transcribe -m my-hearer speech.wav
        polyhead transcribe -m my-hearer talk.wav --language zh --format srt -o talk.srt
        polyhead transcribe -m my-hearer one.wav two.wav --task translate --times words --json
    """
    options.needed(model)
    if form not in FORMATS:
        raise ArgumentError(f"--format is text, srt or vtt; found '{form}'.{did_you_mean(form, FORMATS)}")
    if form != "text" and (as_json or input_file is not None or len(sounds or []) != 1):
        raise ArgumentError(f"--format {form} makes the subtitles of one sound; give one file, and no --json.")
    if sounds and input_file:
        raise ArgumentError("Give sound files or --input FILE, not both.")
    wanted: Any = "segments" if form != "text" and times is None else times

    from polyhead.tasks.hearing.said import USUAL
    from polyhead.tasks.hearing.transcriber import Transcriber
    from polyhead.tasks.load import load

    hear = Transcriber(
        load(model, device=device, precision=precision), language=language, task=task, times=wanted,
        search=chosen(beam), doubt=None if plain else USUAL, prompt=prompt, carry=carry,
    )  # fmt: skip
    several = sounds is None or len(sounds) > 1
    with output(output_file) as out:
        show = shower(out)
        for found in heard(hear, sounds, input_file, output_file):
            for sentence in notes(found):
                say(sentence)
            if as_json:
                out.write(to_json(record(found)) + "\n")
            elif form != "text":
                text = found.srt() if form == "srt" else found.vtt()
                out.write("\n".join(map(show, text.split("\n"))))
            else:
                out.writelines(written(found, times, show, several=several))
            out.flush()


def heard(
    hear: Transcriber, sounds: list[str] | None, input_file: Path | None, output_file: Path | None
) -> Iterator[Transcript]:
    """The transcripts of files, so many at a time; a bar tells the seconds of one, or the files of a list."""
    from polyhead.tasks.transcribe import each_of

    if sounds and len(sounds) == 1:
        [(item, samples)] = each_of(sounds, hear.sounds)
        with bar("hearing", len(samples) // hear.sounds.sampling_rate, of="seconds") as tell:
            found = hear([(item, samples)], heard=tell)
        yield from found
        return
    incoming = iter(sounds) if sounds else (line for line in lines(input_file) if line.strip())
    done = 0
    with working("hearing", input_file, output_file) as tell:
        while files := list(islice(incoming, AT_ONCE)):
            yield from hear(each_of(files, hear.sounds, first=done + 1), first=done + 1, progress=tell)
            done += len(files)


def chosen(beam: int | None) -> Search | None:
    """A beam, or None: as the model's folder says."""
    if beam is None:
        return None
    from polyhead.generation import Beam, Greedy

    return Greedy() if beam == 1 else Beam(beam)


def notes(found: Transcript) -> Iterator[str]:
    """What a person should know of a transcript beside its words."""
    if found.probability is not None:
        yield f"{found.item}: heard as {found.language} ({100 * found.probability:.0f}%)"
    if found.left_out:
        yield f"{found.item}: left out {spans(found.left_out)}, where nobody seems to speak (--plain keeps it)"
    if found.cut:
        yield f"{found.item}: the text of {spans(found.cut)} reached the model's limit; some of it may be missing"


def spans(some: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"{start:.2f}-{end:.2f}" for start, end in some) + " s"


def written(found: Transcript, times: str | None, show: Callable[[str], str], *, several: bool) -> Iterator[str]:
    """The lines of a transcript: its text; or start, end and text of each part, its file before them if not alone."""
    if times is None:
        yield show(one_line(found.text)) + "\n"
        return
    file = show(one_line(found.item)) + "\t" if several else ""
    for segment in found.segments:
        for part in segment.words if times == "words" else (segment,):
            yield f"{file}{part.start:.2f}\t{part.end:.2f}\t{show(one_line(part.text))}\n"


def record(found: Transcript) -> dict[str, object]:
    """All that a transcript holds."""
    return cast(dict[str, object], asdict(found))
