"""A lesson becomes lines of a terminal: who looks at whom, nine stations worked, and what changes when it is broken."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from rich.cells import cell_len
from rich.text import Text

from polyhead.lens.draw import terminal
from polyhead.lens.draw.canvas import Canvas
from polyhead.lens.draw.labels import fit, pad, printable, shown
from polyhead.lens.draw.terminal import Axes
from polyhead.lens.learn.cutting import wide
from polyhead.lens.learn.ending import Ending
from polyhead.lens.learn.lesson import Lesson
from polyhead.lens.learn.said import say, sentences
from polyhead.lens.learn.telling import Station, Worked, linked, number, percent, small, stations, told
from polyhead.lens.learn.working import cut_sentence, effective, one_by_one
from polyhead.operator.kernels.reference import Array

MARGIN = 3  # cells before what a station shows
MANY = 16  # words beyond which only some are shown
LEADING = set("，。、；：！？）”》.,;:!?)")  # what no line begins with
Ask = Callable[[str, str], None]  # a question and its answer


def draw(lesson: Lesson, lang: str, canvas: Canvas, *, answers: bool = True) -> Text:
    """All of it, one section after the other; answers stand at the end."""
    lines = [*opening(lesson, lang, canvas), Text()]
    every = stations(lesson, lang)
    lines += heading(nine(lesson, lang), canvas)
    for n, station in enumerate(every, 1):
        lines += [Text(), *drawn(station, n, lesson, lang, canvas)]
    lines += [Text(), *splitting(lesson, lang, canvas)]
    if lesson.broken is not None:
        lines += [Text(), *breaking(lesson, lang, canvas)]
    if answers:
        lines += [Text(), *heading(say(lang, "answers"), canvas)]
        for n, station in enumerate(every, 1):
            lines += hung(f"{n}  ", station.answer, canvas)
    return Text("\n").join(lines)


def nine(lesson: Lesson, lang: str) -> str:
    return say(lang, "nine", row=lesson.rows.labels[lesson.row], col=lesson.columns.labels[lesson.column])


# ------------------------------------------------------------------------------------------------------------ sections


def opening(lesson: Lesson, lang: str, canvas: Canvas) -> list[Text]:
    """The text and what the model says; who looks at whom; what one should know of the numbers."""
    part = say(lang, f"part_{lesson.part}")
    line = say(
        lang, "model_line", name=lesson.name, part=part, layer=lesson.layer, last=lesson.layers - 1, head=lesson.head,
        end=lesson.heads - 1,
    )  # fmt: skip
    lines = [Text(line, "bold") for line in folded(shown(lesson.text, canvas.encoding), canvas.width)]
    if lesson.ending is not None:
        lines += flowed(said(lesson.ending, lang), canvas)
    lines += flowed(line, canvas, "dim")
    lines += [Text(), *heading(say(lang, "who"), canvas)]
    if lesson.part == "cross":
        lines += flowed(say(lang, "who_cross"), canvas)
    lines += links(lesson, lang, canvas)
    lines += [Text(), *flowed(say(lang, "rows_columns"), canvas)]
    lines += heat(lesson, lesson.weights()[lesson.head], lang, canvas)
    for note in notes(lesson, lang, canvas):
        lines += hung("* ", note, canvas, "dim")
    return lines


def notes(lesson: Lesson, lang: str, canvas: Canvas) -> Iterator[str]:
    """What one should know of the words and the numbers."""
    if signs := signs_of(lesson, canvas):
        yield say(lang, "signs", signs=", ".join(signs))
    if lesson.source.whole:
        whole, n = lesson.source.whole, len(lesson.source.ids)
        yield say(lang, "windowed", whole=whole, n=n, row=lesson.rows.labels[lesson.row])
    if lesson.source.apart:
        yield say(lang, "apart")
    if lesson.joined:
        yield say(lang, "pieces_joined", words=pieces(lesson))
    if lesson.chosen:
        yield say(lang, "chosen")
    yield say(lang, "agrees", off=small(lesson.off))
    yield say(lang, "why_not")


def pieces(lesson: Lesson) -> str:
    """The words that are made of several pieces, each as its pieces."""
    sides = [lesson.rows] if lesson.rows is lesson.columns else [lesson.rows, lesson.columns]
    return ", ".join("|".join(side.labels[i] for i in p) for side in sides for p in side.words.pieces if len(p) > 1)


def signs_of(lesson: Lesson, canvas: Canvas) -> list[str]:
    """What is read and stands for no characters of the text."""
    sides = (lesson.rows.words, lesson.columns.words)
    return list(dict.fromkeys(named(canvas, [side.labels[w] for side in sides for w in side.signs])))


def named(canvas: Canvas, labels: Sequence[str]) -> list[str]:
    """Labels that may be several words, each safe to print."""
    longest = max(canvas.width // 3, 4)
    words = (" ".join(printable(word, canvas.encoding) for word in label.split(" ")) for label in labels)
    return [fit(label, longest, canvas.ellipsis) for label in words]


def said(ending: Ending, lang: str) -> str:
    if ending.next:
        return say(lang, "next", words=", ".join(f"{printable(word)} {percent(p)}" for word, p in ending.next))
    return say(lang, "says", text=ending.text)


def links(lesson: Lesson, lang: str, canvas: Canvas) -> Iterator[Text]:
    """Where each word looks most; of many words those round the one that is pinned."""
    every = linked(lesson, lang)
    signs = lesson.rows.words.signs
    near = around(len(every), MANY, word_of(lesson.rows.words.pieces, lesson.row) - sum(s < lesson.row for s in signs))
    for i in near:
        yield from hung(canvas.arrow + " ", every[i], canvas)
    if len(near) < len(every):
        yield from flowed(say(lang, "more_words", n=len(every) - len(near)), canvas, "dim")


def heat(lesson: Lesson, weights: Array, lang: str, canvas: Canvas) -> list[Text]:
    """The weights by words as a map with its numbers; of many words those round the pinned ones."""
    rows, columns = lesson.rows.words, lesson.columns.words
    down = around(len(rows.labels), MANY, word_of(rows.pieces, lesson.row))
    across = around(len(columns.labels), MANY, word_of(columns.pieces, lesson.column))
    axes = Axes([rows.labels[i] for i in down], [columns.labels[j] for j in across])
    lines = terminal.head_map(weights[np.ix_(down, across)], axes, title="", canvas=canvas, values=True)[1:]
    for line in lines if not canvas.colours else []:
        line.rstrip()
    if len(down) < len(rows.labels) or len(across) < len(columns.labels):
        here = f"{len(down)} × {len(across)}", f"{len(rows.labels)} × {len(columns.labels)}"
        lines = [*flowed(say(lang, "part_of_map", part=here[0], whole=here[1]), canvas, "dim"), *lines]
    return lines


def word_of(pieces: Sequence[Sequence[int]], place: int) -> int:
    """The number of the word that a piece is of."""
    return next((w for w, numbers in enumerate(pieces) if place in numbers), 0)


def drawn(station: Station, n: int, lesson: Lesson, lang: str, canvas: Canvas) -> Iterator[Text]:
    """One station: its title, what happens, its numbers, the worked sum, the question."""
    shapes = "   ".join(f"{letter} {list(shape)}" for letter, shape in station.shapes)
    yield Text(f"{n}  {station.title}", "bold")
    line = f"{station.formula}    {shapes}"
    for each in [line] if cell_len(line) <= canvas.width - MARGIN else [station.formula, shapes]:
        yield from (Text(" " * MARGIN + part, "cyan") for part in folded(plainer(each, canvas), canvas.width - MARGIN))
    yield from indented(station.plain, canvas)
    yield from grid(station, lesson, canvas)
    for one in station.worked:
        yield from worked(one, lang, canvas)
    yield from hung(" ? ", station.question, canvas, "italic")


def grid(station: Station, lesson: Lesson, canvas: Canvas) -> Iterator[Text]:
    """Rows of numbers, as many columns as fit; the pinned row and column are marked."""
    if not station.grid:
        return
    names = named(canvas, [label for label, _ in station.grid])
    margin, cell = max(map(cell_len, names)) + MARGIN + 1, 9
    across = max((canvas.width - margin) // cell, 1)
    square = station.heads == lesson.columns.labels
    length = len(station.grid[0][1])
    row, column = (lesson.row, lesson.column) if square else (None, None)
    kept = around(length, across, column)
    rows = around(len(station.grid), 10, row)
    if station.note or len(kept) < length or len(rows) < len(station.grid):
        left = f"[{length} → {len(kept)}]" if len(kept) < length and square else ""
        yield Text(" " * MARGIN + " ".join(filter(None, (station.note, left))), "dim")
    heads = canvas.labels(station.heads)
    above = [pad(fit(heads[k], cell - 1, canvas.ellipsis), cell, "right") for k in kept]
    yield Text(" " * margin + "".join(above), "bold")
    for i in rows:
        label, numbers = names[i], station.grid[i][1]
        line = Text(" " * MARGIN + pad(label, margin - MARGIN), "bold" if i == row else "")
        for k in kept:
            here = i == row and k == column
            text = written(numbers[k], canvas)
            line.append(
                pad(f"[{text}]" if here else text + (" " if square else ""), cell, "right"), "bold" if here else ""
            )
        line.rstrip()
        yield line


def written(x: float, canvas: Canvas) -> str:
    return ("–∞" if canvas.blocks else "-inf") if x == -np.inf else number(x)


def around(count: int, most: int, near: int | None) -> list[int]:
    """The first few, or those round one of them."""
    if count <= most:
        return list(range(count))
    first = 0 if near is None else min(max(near - most // 2, 0), count - most)
    return list(range(first, first + most))


def worked(one: Worked, lang: str, canvas: Canvas) -> Iterator[Text]:
    """A number of the pinned cell as a sum that totals."""
    if one.about:
        yield from indented(one.about + (":" if lang == "en" else "："), canvas)
    total = one.sum
    if total is not None:
        names = named(canvas, [one.labels[i] for i, _, _ in total.terms])
        others = say(lang, "other_1" if total.others == 1 else "others", n=total.others)
        ends: list[tuple[str, float]] = [(others, total.rest)] if total.others else []
        ends += [(say(lang, "bias"), total.more)] if total.more is not None else []
        width = max(map(cell_len, [*names, *(name for name, _ in ends), say(lang, "total")]))
        plain = all(right == 1 for _, (_, right), _ in total.terms)
        left_width, right_width = (max(len(number(factors[n])) for _, factors, _ in total.terms) for n in (0, 1))
        for name, (_, (left, right), product) in zip(names, total.terms, strict=True):
            factors = "" if plain else f"  {number(left):>{left_width}} × {number(right):>{right_width}} ="
            yield Text(" " * (MARGIN + 2) + pad(name, width) + factors + f"{number(product):>10}")
        blank = " " * (0 if plain else left_width + right_width + 7)
        for name, value in ends:
            yield Text(" " * (MARGIN + 2) + pad(name, width) + blank + f"{number(value):>10}", "dim")
        yield Text(" " * (MARGIN + 2) + pad(say(lang, "total"), width) + blank + f"{number(total.total):>10}", "bold")
    if one.after:
        yield from indented(one.after, canvas, "" if len(one.after) > 60 else "bold")


def splitting(lesson: Lesson, lang: str, canvas: Canvas) -> Iterator[Text]:
    """That heads split features, and what were lost if they split the sentence."""
    met, h = lesson.caught, lesson.head
    words, K, H = told(lesson, lang), lesson.width, lesson.heads
    yield from heading(say(lang, "split_title"), canvas)
    yield from flowed(say(lang, "split", **words | {"first": h * K + 1, "last": (h + 1) * K}), canvas)
    on, off = ("■", "□") if canvas.blocks else ("#", ".")
    wide_ = 2 * H + 24 <= canvas.width
    blocks = [on if n == h else off for n in range(H)] if wide_ else []
    names = canvas.labels(lesson.rows.words.labels[:8])
    margin = max(map(cell_len, names)) + 1
    for name in names if wide_ else []:
        yield Text(" " * MARGIN + pad(name, margin) + " ".join(blocks))
    yield from flowed(say(lang, "split_parallel", **words | {"apart": small(one_by_one(met))}), canvas)
    S = words["S"]
    if S < 2:  # nothing to cut
        return
    yield Text()
    yield from heading(say(lang, "wrong_title"), canvas)
    cut = cut_sentence(met, lesson.working, h, 2, lesson.speaking)
    parts = " | ".join(" ".join(canvas.labels([lesson.columns.labels[j] for j in group])) for group in cut.groups)
    sentences_ = [
        say(lang, "wrong", n=len(cut.groups), parts=parts, pairs=cut.pairs, of=cut.of, crosses=percent(cut.crosses))
    ]
    row, column = cut.lost
    if (share := lesson.working.weights[h, row, column]) > 0 and cut.crosses > 0:
        row, column = lesson.rows.labels[row], lesson.columns.labels[column]
        sentences_.append(say(lang, "wrong_lost", row=row, col=column, before=percent(share)))
    sentences_.append(say(lang, "wrong_alone", H=H, S=S, most=-(-S // min(H, S))))
    yield from flowed((" " if lang == "en" else "").join(sentences_), canvas)


def breaking(lesson: Lesson, lang: str, canvas: Canvas) -> Iterator[Text]:
    """What changes, before beside after."""
    broken, h = lesson.broken, lesson.head
    assert broken is not None
    comma = ", " if lang == "en" else "，"
    what = comma.join(
        say(lang, key, **{name: f"{x:.4g}" if isinstance(x, float) else x for name, x in words.items()})
        for key, words in broken.done
    )
    yield from heading(say(lang, "broken_title", what=what), canvas)
    whole = {"broken_swap", "broken_positions"} & {key for key, _ in broken.done}
    yield from flowed(say(lang, "broken_whole" if whole else "broken_where"), canvas)
    before, after = lesson.weights()[h], lesson.weights_broken()[h]
    w = word_of(lesson.rows.words.pieces, lesson.row)
    yield Text()
    yield Text(say(lang, "broken_row", row=lesson.rows.words.labels[w]), "bold")
    names = canvas.labels(lesson.columns.words.labels)
    margin, bar = max(map(cell_len, names)) + 1, max((canvas.width - 40) // 2, 8)
    titles = [say(lang, "before"), say(lang, "after")]
    yield Text(" " * (MARGIN + margin) + pad(titles[0], bar + 8) + titles[1])
    for j in around(len(names), MANY, w if lesson.part != "cross" else None):
        line = Text(" " * MARGIN + pad(names[j], margin))
        for x in (before[w, j], after[w, j]):
            line.append(pad(f"{100 * x:5.1f} % ", 8)).append(pad(("█" if canvas.blocks else "#") * round(x * bar), bar))
        line.rstrip()
        yield line
    yield Text()
    for title, weights in ((titles[0], before), (titles[1], after)):
        sentence = linked(lesson, lang, weights)
        signs = lesson.rows.words.signs
        place = w - sum(1 for s in signs if s < w) if len(signs) < len(lesson.rows.words.labels) else w
        if w not in signs or len(signs) == len(lesson.rows.words.labels):
            yield from hung(title + ": ", sentence[place], canvas)
    spread = [f"{effective(x).mean():.1f}" for x in (before, after)]
    yield from flowed(say(lang, "broken_spread", before=spread[0], after=spread[1]), canvas)
    old, new = lesson.working.output[lesson.row], broken.output[lesson.row]
    share = float(np.linalg.norm(new - old) / max(np.linalg.norm(old), 1e-30))
    yield from flowed(say(lang, "broken_output", row=lesson.rows.labels[lesson.row], percent=percent(share)), canvas)
    if lesson.ending is not None and broken.ending is not None:
        ends = [said(end, lang) if end.next else end.text for end in (lesson.ending, broken.ending)]
        for line in say(lang, "broken_says", before=ends[0], after=ends[1]).split("\n"):
            yield from hung(line[: len(line) - len(line.lstrip())], line.lstrip(), canvas)
        if lesson.part == "decoder" and any("mask" in key for key, _ in broken.done) and not lesson.ending.next:
            yield from flowed(say(lang, "broken_steps"), canvas)
    yield Text()
    yield Text(titles[1], "bold")
    yield from heat(lesson, after, lang, canvas)


# --------------------------------------------------------------------------------------------------------------- lines


def heading(title: str, canvas: Canvas) -> list[Text]:
    rule = "─" if canvas.blocks else "-"
    lines = folded(shown(title, canvas.encoding), canvas.width)
    return [*(Text(line, "bold") for line in lines), Text(rule * min(max(map(cell_len, lines)), canvas.width), "dim")]


def flowed(sentence: str, canvas: Canvas, style: str = "") -> list[Text]:
    return [Text(line, style) for line in folded(shown(sentence, canvas.encoding), canvas.width)]


def indented(sentence: str, canvas: Canvas, style: str = "") -> list[Text]:
    return hung(" " * MARGIN, sentence, canvas, style)


def hung(sign: str, sentence: str, canvas: Canvas, style: str = "") -> list[Text]:
    """A sign, and the sentence behind it, all its lines indented alike."""
    lines = folded(shown(sentence, canvas.encoding), canvas.width - cell_len(sign))
    return [Text((sign if n == 0 else " " * cell_len(sign)) + line, style) for n, line in enumerate(lines)]


def folded(sentence: str, width: int) -> list[str]:
    """Lines of at most so many cells: cut at spaces, and anywhere in Chinese but before what closes."""
    lines, width = [""], max(width, 8)
    for part in parts(sentence):
        if cell_len(lines[-1] + part.rstrip()) > width and lines[-1]:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
        while cell_len(part) > width and not lines[-1]:
            head = fit(part, width, "")
            lines[-1], part = head, part[len(head) :]
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines if line.strip()] or [""]


def parts(sentence: str) -> Iterable[str]:
    """What no line breaks inside of."""
    found: list[str] = []
    for word in re.findall(r"\S+\s*|\s+", sentence):
        run = ""
        for character in word:
            if run and (wide(character) or wide(run[-1])) and character not in LEADING and not character.isspace():
                if run[-1] not in "（“《":
                    found.append(run)
                    run = ""
            run += character
        found.append(run)
    return found


def plainer(formula: str, canvas: Canvas) -> str:
    """The formula in the characters that there are."""
    return formula if canvas.blocks else shown(formula.replace("√", "sqrt ").replace("Σ", "sum"), canvas.encoding)


def quiz(
    lesson: Lesson, lang: str, canvas: Canvas, show: Callable[[Sequence[Text]], None], ask: Callable[[str], str]
) -> None:
    """Station by station: what happens, the question, a wait for the person, the answer."""
    show([*opening(lesson, lang, canvas), Text(), *heading(nine(lesson, lang), canvas)])
    for n, station in enumerate(stations(lesson, lang), 1):
        show([Text(), *drawn(station, n, lesson, lang, canvas)])
        ask(" " * MARGIN + sentences(lang)["quiz_prompt"])
        show(hung(" ! ", station.answer, canvas, "bold"))
    show([Text(), *splitting(lesson, lang, canvas)])
    if lesson.broken is not None:
        show([Text(), *breaking(lesson, lang, canvas)])
