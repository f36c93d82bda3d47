"""`polyhead complete`: beginnings go in, continuations come out, as they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polyhead.cli import options
from polyhead.cli.door import field_of, in_windows, output
from polyhead.cli.screen import one_line, shower, teller, to_json
from polyhead.errors import ArgumentError

if TYPE_CHECKING:
    from polyhead.generation import Search


def complete(
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT", help="Beginnings.")] = None,
    model: options.NeededModel = "",
    input_file: options.Input = None,
    field: options.Field = None,
    max_new: Annotated[int, typer.Option("--max-new", min=1, help="The most tokens that are added.")] = 128,
    stop: Annotated[list[str] | None, typer.Option("--stop", help="End before this text; may be given often.")] = None,
    beam: Annotated[int | None, typer.Option("--beam", min=1, max=1000, help="Search with a beam.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="Draw, at this temperature.")] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Draw from the k likeliest tokens.")] = None,
    top_p: Annotated[float, typer.Option("--top-p", help="Draw from tokens of this probability together.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed draws the same.")] = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
    output_file: options.Output = None,
) -> None:
    """Continue texts.

    A single prompt is continued on the screen as it is written; many, or with --json, one line each. Unless told
    otherwise, tokens are chosen as the model's generation_config.json says.

    **Examples**

        polyhead complete -m gpt2 "Once upon a time" --temperature 0.8 --seed 1
        polyhead complete -m my-coder "def area(r):" --stop "\\n\\n" --max-new 60
        polyhead complete -m gpt2 -i beginnings.txt -o whole.txt
    """
    options.needed(model)
    field = field_of(input_file, field)
    search = chosen(beam, temperature, top_k=top_k, top_p=top_p, seed=seed)
    ends = plain(stop or [])

    from polyhead.tasks.complete import Completer
    from polyhead.tasks.load import load

    completer = Completer(load(model, device=device), search=search, max_new=max_new, stop=ends)
    if prompts and len(prompts) == 1 and input_file is None and output_file is None and not as_json:
        tell = teller()
        ids = completer.read(prompts[0])  # what cannot be continued is not shown either
        tell(prompts[0])
        completer.batch([ids], prompts, numbers=[0], tell=tell)
        print()
        return
    with output(output_file) as out:
        show = shower(out)
        for _, found in in_windows(prompts, input_file, output_file, "continuing", completer, field=field):
            for each in (answers[0] for answers in found):
                told = {"prompt": each.prompt, "text": each.text, "finished": each.finished, "stop": each.stop}
                out.write((to_json(told) if as_json else show(one_line(each.prompt + each.text))) + "\n")
            out.flush()


def plain(stop: list[str]) -> list[str]:
    """Stop texts as typed, in which only \\n and \\t stand for something else."""
    if "" in stop:
        raise ArgumentError("--stop is empty, which stands everywhere; give the text to end before, or leave it out.")
    return [text.replace("\\n", "\n").replace("\\t", "\t") for text in stop]


def chosen(beam: int | None, temperature: float | None, *, top_k: int | None, top_p: float, seed: int) -> Search | None:
    """A beam, a draw, or None: as the model's folder says."""
    if beam is not None and temperature is not None:
        raise ArgumentError("--temperature draws and --beam searches for the best; give one of them.")
    if temperature is not None and not temperature > 0:
        raise ArgumentError(
            f"--temperature is {temperature}, but must be above 0; leave it out for the likeliest tokens."
        )
    if not 0 < top_p <= 1:
        raise ArgumentError(f"--top-p is {top_p}, but must be above 0 and at most 1, a probability.")
    if temperature is None and (top_k is not None or top_p != 1.0):
        raise ArgumentError("--top-k and --top-p shape how tokens are drawn; give --temperature as well, which draws.")

    from polyhead.generation import Beam, Greedy, Sample

    if temperature is not None:
        return Sample(temperature, top_k, top_p, seed)
    return None if beam is None else Greedy() if beam == 1 else Beam(beam)
