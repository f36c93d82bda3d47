"""The heads of a model as a table for the terminal: a line for each head, a column for each metric, painted by size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.cells import cell_len
from rich.text import Text

from polyhead.lens.draw.canvas import Canvas
from polyhead.lens.draw.labels import pad, shown
from polyhead.lens.language import Language
from polyhead.lens.roles.metrics import BY_KEY, CONFIDENT, Metric, chosen
from polyhead.lens.roles.result import Heads
from polyhead.lens.roles.syntax import MARGIN
from polyhead.lens.roles.wording import said

WIDTH = 7  # cells of a column, and one between
TOP = 12  # relations of a treebank
SHOWN = (  # where not all can be shown, those that tell heads apart best go first
    "previous", "next", "itself", "special", "sink", "alignment", "confidence", "evenness", "induction", "prefix",
    "copying", "syntax", "importance", "row", "column", "spread", "dx", "dy", "delimiter", "distance", "duplicate",
    "ablation", "local", "positional",
)  # fmt: skip
NAMES = {  # in seven cells
    "previous": "prev", "positional": "posit.", "distance": "dist", "duplicate": "dupl", "induction": "induct",
    "confidence": "confid", "delimiter": "delim", "evenness": "even", "alignment": "align", "importance": "import",
    "ablation": "ablate", "diagonal": "diag",
}  # fmt: skip
ROLES = {  # how large a number must be, at the lower end of its interval too, for a head to be called so; the first
    # counts. Thresholds of our own but the first (Voita et al. 2019).
    "positional": CONFIDENT, "induction": 0.4, "syntax": MARGIN, "previous": 0.4, "next": 0.4, "itself": 0.4,
    "duplicate": 0.4, "alignment": 0.8, "row": 0.4, "column": 0.4, "special": 0.5, "sink": 0.5, "delimiter": 0.4,
    "evenness": 0.9,
}  # fmt: skip


def role(heads: Heads, call: int, head: int, lang: Language) -> str:
    """What one head is called, if anything: the first of `ROLES` whose number is large enough and above chance."""
    for key, least in ROLES.items():
        if key not in heads.keys:
            continue
        m = heads.place(key)
        low = heads.low[call, head, m]
        sure = heads.values[call, head, m] if np.isnan(low) else low
        chance = heads.chance[call, m]
        if sure >= least and (key == "evenness" or not chance >= sure):
            if key == "positional" and told(heads, call, head):
                return said("at an offset", lang, offset=f"{heads.of('offset')[call, head]:+.0f}")
            return said(key, lang)
    return ""


def told(heads: Heads, call: int, head: int) -> bool:
    return "offset" in heads.keys and not np.isnan(heads.of("offset")[call, head])


def fitting(heads: Heads, columns: Sequence[str] | None, every: bool, room: int, sort: str | None) -> list[Metric]:
    """The metrics of the table's columns."""
    if columns is not None:
        for key in (some := chosen(columns)):
            heads.place(key.key)
        return list(some)
    if every:
        return list(heads.metrics)
    there = [BY_KEY[key] for key in SHOWN if key in heads.keys and not np.isnan(heads.of(key)).all()]
    if sort is not None:
        there = [BY_KEY[sort], *(metric for metric in there if metric.key != sort)]
    some = there[: max(1, room // (WIDTH + 1))]
    return [metric for metric in heads.metrics if metric in some]


def table(
    heads: Heads, *, sort: str | None, columns: Sequence[str] | None, every: bool, canvas: Canvas, lang: Language
) -> Text:
    if sort is not None:
        heads.place(sort)
    first, chance = said("head", lang), said("chance row", lang)
    named = max(map(cell_len, (first, chance, *(call.label(call.heads - 1, lang) for call in heads.calls))))
    roles = {(c, h): role(heads, c, h, lang) for c, h in heads.ranked()}
    last = max(map(cell_len, roles.values()))
    room = canvas.width - named - 1 - (last + 1 if last else 0)
    some = fitting(heads, columns, every, room, sort)
    out = Text().append(f"{shown(heads.model, canvas.encoding)}\n", "bold")
    for note in heads.notes_zh if lang == "zh" else heads.notes:
        out.append(f"{shown(note, canvas.encoding)}\n")
    out.append("\n" + pad(first, named))
    for metric in some:
        out.append(
            " " + pad(NAMES.get(metric.key, metric.key)[:WIDTH], WIDTH, "right"), "bold" if metric.key == sort else ""
        )
    out.append(f" {said('role', lang)}\n" if last else "\n")
    for c, h in heads.ranked(sort):
        out.append(pad(heads.calls[c].label(h, lang), named))
        for metric in some:
            out.append(" ").append_text(cell(heads, metric, c, h, canvas))
        out.append(f" {roles[c, h]}".rstrip() + "\n")
    out.append(pad(chance, named))
    for metric in some:
        found = heads.chance[:, heads.place(metric.key)]
        found = found[~np.isnan(found)]
        out.append(" " + pad(number(metric, float(found.mean())) if len(found) else "", WIDTH, "right"))
    out.append("\n\n")
    for metric in some:
        out.append(said("about", lang, name=NAMES.get(metric.key, metric.key), zh=metric.zh), "bold")
        out.append(f"{metric.about_zh if lang == 'zh' else metric.about_en}\n")
    if heads.syntax is not None:
        out.append("\n").append_text(grammar(heads, canvas, lang))
    rest = [key for key in heads.keys if BY_KEY[key] not in some]
    if rest:
        out.append(f"\n{said('measured too', lang, keys=', '.join(rest))}\n")
    out.rstrip()
    return out


def cell(heads: Heads, metric: Metric, call: int, head: int, canvas: Canvas) -> Text:
    """One number, painted where the terminal has colours."""
    m = heads.place(metric.key)
    value = float(heads.values[call, head, m])
    if np.isnan(value):
        return Text(pad("-", WIDTH, "right"))
    text = pad(number(metric, value), WIDTH, "right")
    low, high = reach(heads, metric, m)
    share = (value - low) / (high - low) if high > low else 0.0
    return canvas.cell(share, WIDTH, text) if canvas.colours and metric.key != "offset" else Text(text)


def reach(heads: Heads, metric: Metric, m: int) -> tuple[float, float]:
    """The numbers that the ends of the colour scale stand for: a share's are 0 and 1, others those of the table."""
    if metric.unit == "share":
        return 0.0, 1.0
    found = heads.values[..., m]
    return float(np.nanmin(found)), float(np.nanmax(found))


def number(metric: Metric, value: float) -> str:
    """As many digits as mean something."""
    match metric.unit:
        case "share" | "score":
            return f"{value:.2f}"
        case "points":
            return f"{value:+.0f}"
        case "places" if metric.key == "offset":
            return f"{value:+.0f}"
        case "":
            return f"{value:+.3f}" if abs(value) < 10 else f"{value:+.2g}"
        case _:
            return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def grammar(heads: Heads, canvas: Canvas, lang: Language) -> Text:
    """The head that finds each of the commonest relations best, and in which direction."""
    found = heads.syntax
    assert found is not None
    calls = {call.name: call for call in heads.calls}
    out = Text(f"{said('treebank', lang, n=found.sentences)}\n")
    if found.left_out:
        out.append(f"{said('left out', lang, n=found.left_out)}\n")
    ways = {"head to dependent": "to dependent", "dependent to head": "to head"}
    titles = [said(key, lang) for key in ("relation", "looks", "head", "found", "best offset")]
    out.append(
        f"{pad(titles[0], 13)} {pad(titles[1], 17)} {pad(titles[2], 9)} {pad(titles[3], 15, 'right')}  {titles[4]}\n"
    )
    for name in found.relations[:TOP]:
        both = [best for best in found.best if best.relation == name]
        for best in sorted(both, key=lambda each: -each.margin)[:1]:
            way = said(ways[best.direction], lang, arrow=canvas.arrow)
            interval = f"{best.score:.0f} [{best.low:.0f}, {best.high:.0f}]"
            out.append(
                f"{pad(shown(name, canvas.encoding), 13)} {pad(way, 17)}"
                f" {pad(calls[best.call].label(best.head, lang), 9)}"
                f" {pad(interval, 15, 'right')}  {best.baseline:.0f} ({best.offset:+d})"
            )
            out.append(f"  {said('syntactic', lang)}\n" if best.syntactic else "\n")
    return out
