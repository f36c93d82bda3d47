"""`polyhead complete`: beginnings go in, continuations come out, as they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyhead.cli import choice, options
from polyhead.cli.door import field_of, in_windows, output
from polyhead.cli.screen import one_line, say, shower, teller, to_json

if TYPE_CHECKING:
    from polyhead.tasks.complete import Completion


@choice.asks
def complete(
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT", help="Beginnings.")] = None,
    model: options.NeededModel = "",
    input_file: options.Input = None,
    field: options.Field = None,
    max_new: Annotated[
        int | None,
        typer.Option("--max-new", min=1, show_default="the model's, or 128", help="The most tokens that are added."),
    ] = None,
    nbest: Annotated[
        int,
        typer.Option("--nbest", min=1, max=1000, help="Continuations of each prompt: its number, the score, both."),
    ] = 1,
    by: choice.Choice = choice.USUAL,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    as_json: options.Json = False,
    output_file: options.Output = None,
) -> None:
    """Continue texts.

    A single prompt is continued on the screen as it is written; many, or with --json, one line each. Unless told
    otherwise, tokens are chosen as the model's generation_config.json says. Scores are log-probabilities; a beam's are
    divided by the length.

    **Examples**

        polyhead complete -m gpt2 "Once upon a time" --temperature 0.8 --seed 1
        polyhead complete -m my-coder "def area(r):" --stop "\\n\\n" --max-new 60
        polyhead complete -m gpt2 -i beginnings.txt -o whole.txt
        polyhead complete -m gpt2 "Once upon a time" --nbest 4 --groups 4
        polyhead complete -m gpt2-xl "Once upon a time" --draft gpt2
    """
    options.needed(model)
    field = field_of(input_file, field)

    from polyhead.tasks.complete import Completer
    from polyhead.tasks.load import load
    from polyhead.tasks.needs import able

    loaded = load(model, device=device, precision=precision)
    able(loaded, "complete")
    completer = Completer(
        loaded, search=by.search(loaded, n_best=nbest), max_new=max_new, stop=by.stop, draft=by.draft,
        guidance=by.guidance,
    )  # fmt: skip
    if prompts and len(prompts) == 1 and input_file is None and output_file is None and nbest == 1 and not as_json:
        tell = teller()
        ids = completer.read(prompts[0])  # what cannot be continued is not shown either
        tell(prompts[0])
        drafted = completer.batch([ids], prompts, numbers=[0], tell=tell)[0].drafted
        print()
        if drafted is not None:
            say(f"{drafted}.")
        return
    done = 0

    def continued(some: list[str], *, progress: Any) -> Any:
        nonlocal done
        done += len(some)
        return completer(some, first=done - len(some), progress=progress)

    with output(output_file) as out:
        show = shower(out)
        for some, found in in_windows(prompts, input_file, output_file, "continuing", continued, field=field):
            for number, each in enumerate(found, done - len(some) + 1):
                rows = [record(each, nbest)] if as_json else written(each, number, nbest, show)
                out.writelines(row + "\n" for row in rows)
            out.flush()


def written(found: Completion, number: int, nbest: int, show: Callable[[str], str]) -> Iterator[str]:
    """The continuations of one prompt as the lines that are printed."""
    if nbest == 1:
        yield show(one_line(found.prompt + found.text))
    else:
        for each in found.candidates:
            yield f"{number}\t{each.score:.4f}\t{show(one_line(found.prompt + each.text))}"


def record(found: Completion, nbest: int) -> str:
    """The continuations of one prompt as a line of JSON: the best, and all of them where several were asked for."""
    told: dict[str, Any] = {"prompt": found.prompt, "text": found.text, "finished": found.finished, "stop": found.stop}
    told |= {} if found.drafted is None else {"drafted": asdict(found.drafted)}
    if nbest > 1:
        told["candidates"] = [asdict(each) for each in found.candidates]
    return to_json(told)
