"""`polyhead complete`: beginnings go in, continuations come out, as they are written."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from polyhead.cli import choice, options
from polyhead.cli.door import field_of, in_windows, output
from polyhead.cli.screen import one_line, say, shower, teller, to_json


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
    by: choice.Choice = choice.USUAL,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
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
        polyhead complete -m gpt2-xl "Once upon a time" --draft gpt2
    """
    options.needed(model)
    field = field_of(input_file, field)

    from polyhead.tasks.complete import Completer
    from polyhead.tasks.load import load

    completer = Completer(
        load(model, device=device, precision=precision), search=by.search, max_new=max_new, stop=by.stop,
        draft=by.draft, guidance=by.guidance,
    )  # fmt: skip
    if prompts and len(prompts) == 1 and input_file is None and output_file is None and not as_json:
        tell = teller()
        ids = completer.read(prompts[0])  # what cannot be continued is not shown either
        tell(prompts[0])
        drafted = completer.batch([ids], prompts, numbers=[0], tell=tell)[0][0].drafted
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
        for _, found in in_windows(prompts, input_file, output_file, "continuing", continued, field=field):
            for each in (answers[0] for answers in found):
                told: dict[str, Any] = {"prompt": each.prompt, "text": each.text, "finished": each.finished}
                told |= {"stop": each.stop} | ({} if each.drafted is None else {"drafted": asdict(each.drafted)})
                out.write((to_json(told) if as_json else show(one_line(each.prompt + each.text))) + "\n")
            out.flush()
