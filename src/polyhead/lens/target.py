"""What a model answered becomes one number, the score of a label or the log-probability of words, and its gradient is
heard by a recording: what of each weight raised that number, and what lowered it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn

from polyhead.core import Stack
from polyhead.core.attention import Attention
from polyhead.errors import ArgumentError, did_you_mean
from polyhead.lens.backward import Target
from polyhead.lens.draw.words import group, word
from polyhead.lens.passes import Pass, precise
from polyhead.lens.recording import Recording
from polyhead.lens.rulers import Words
from polyhead.lens.watch import watch

ANSWER = "answer"  # what the model itself answered: its likeliest label, or all that it wrote
LABELS = ("labels", "image labels", "place labels")
WORDS = ("next word", "hidden words", "translation", "text to text", "speech to text")
GIVEN = "The model chose no such word: the first one was given to it; choose a later one as the target"
NOTHING = "The model wrote nothing whose gradient could be taken; leave the target out"
Aim = Callable[[Tensor], tuple[Tensor, Target]]  # vectors [1, T, D] -> the number, and its name
Head = Callable[[Tensor], Tensor]
Wish = str | int


def recorded(one: Pass, wish: Wish | None) -> Recording:
    """The recording of a pass; where a target is wished for, with the gradients of it.

    wish: "answer", for the likeliest label or all that was written; a label; a written word, by itself or by its number
    from 0. Raises ArgumentError for what the model does not answer, and for a model that cannot have gradients.
    """
    does, model = one.loaded.family.does, one.loaded.model
    if wish is None:
        recording = one.watched()
        if does not in (*LABELS, *WORDS):
            recording.target = Target(
                "this model answers nothing whose gradient could be taken",
                "这个模型不给出可以求梯度的答案",
                there=False,
            )
        return recording
    aim = aim_at(one, wish)
    with torch.enable_grad(), followed(model) as learned:
        with watch(one.loaded.named, gradients=True) as recording:
            score, target = aim(one.vectors())
        torch.autograd.grad(score, learned, allow_unused=True)
    recording.target, recording.rulers = target, dict(one.rulers)
    return recording


@contextmanager
def followed(model: nn.Module) -> Iterator[list[Tensor]]:
    """Let gradients flow from the values of each stack's first attention on, and to no other parameter: whatever comes
    later in a stack is made of it, so that the gradients of all its attention are worked out on the way. Raises
    ArgumentError."""
    if any(x.is_inference() for x in chain(model.parameters(), model.buffers())):
        raise ArgumentError(
            "The model was loaded within torch.inference_mode, so that it can have no gradients; load it outside, or"
            " leave the target out"
        )
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    stacks = [module for module in model.modules() if isinstance(module, Stack)]
    first = [next(module for module in stack.modules() if isinstance(module, Attention)) for stack in stacks]
    learned: dict[Tensor, None] = dict.fromkeys(x for layer in first for x in layer.value.parameters())
    try:
        for parameter in before:
            parameter.requires_grad_(parameter in learned)
        yield [*learned]
    finally:
        for parameter, flag in before.items():
            parameter.requires_grad_(flag)


def aim_at(one: Pass, wish: Wish) -> Aim:
    """What a wish means for what a model says in a pass."""
    loaded = one.loaded
    head: Head = cast(Any, loaded.model).head
    if isinstance(wish, bool) or not isinstance(cast(object, wish), str | int):
        raise ArgumentError(f"target must be 'answer', a label, a word or its number; found {wish!r}")
    if loaded.family.does in LABELS:
        return label(head, str(wish), loaded.config.labels)
    part = next((part for part in ("chosen", "decoder", "encoder") if part in one.ids), None)
    if loaded.family.does in WORDS and part is not None:
        return some_words(head, wish, written(one, part))
    raise ArgumentError(
        f"{loaded.folder or 'This model'} gives {loaded.family.does}, and no label or word whose gradient could be"
        " taken; leave the target out"
    )


@dataclass(frozen=True, eq=False)
class Written:
    """Words, and where a model chose them.

    ids    of the tokens at each place of the ruler `words`.
    free   the places that the model chose by itself.
    whole  what the log-probability of all of these is called.
    none   what is said of a word that is not among these.
    shift  how many rows before its own a place was chosen: 1 where the ruler is what was read.
    """

    ids: Sequence[int]
    words: Words
    free: Sequence[int]
    whole: Target
    none: str
    shift: int = 0


def written(one: Pass, part: str) -> Written:
    """What a model chose in a pass: what it wrote; of a text that it read, each token after the first, or each that is
    no sign where it looks both ways."""
    ids, words = one.ids[part], one.rulers[part]
    assert isinstance(words, Words)
    if part == "chosen":
        whole = Target("the log-probability of all that was written", "所写全部内容的对数概率")
        return Written(ids, words, range(one.first, words.count), whole, NOTHING)
    whole = Target("the log-probability of the text", "这段文本的对数概率")
    if part == "decoder":
        return Written(ids, words, range(1, words.count), whole, GIVEN, shift=1)
    return Written(ids, words, [i for i in range(words.count) if i not in words.signs], whole, NOTHING)


def label(head: Head, wish: str, names: Sequence[str]) -> Aim:
    """The score of a label, before it is made a probability; where every place has labels, of all places together."""
    if wish not in names and wish != ANSWER:
        raise ArgumentError(
            f"target must be '{ANSWER}' or one of the labels {', '.join(names)}; found '{wish}'."
            + did_you_mean(wish, names)
        )

    def aim(x: Tensor) -> tuple[Tensor, Target]:
        scores = head(x)
        places = precise(scores).reshape(-1, scores.shape[-1])  # [1 or T, L]
        if wish in names:
            number = names.index(wish)
        elif len(places) == 1:
            number = int(places[0].argmax())
        else:
            likeliest = places.amax(-1).sum()
            return likeliest, Target("the scores of the likeliest labels of all places", "所有位置最可能标签的得分之和")
        name = names[number]
        return places[:, number].sum(), Target(f"the score of the label “{name}”", f"标签“{name}”的得分")

    return aim


def some_words(head: Head, wish: Wish, written: Written) -> Aim:
    """The log-probability of one word, all its pieces, or of all that was written."""
    if wish == ANSWER:
        places, target = [*written.free], written.whole
    else:
        run, name = chosen(wish, written)
        places = [place for place in run if place in written.free]
        target = Target(f"the log-probability of the word “{name}”", f"词“{name}”的对数概率")
    if not places:
        raise ArgumentError(written.none)

    def aim(x: Tensor) -> tuple[Tensor, Target]:
        rows = torch.tensor(places, device=x.device) - written.shift
        ids = torch.tensor([written.ids[place] for place in places], device=x.device)
        scores = head(x.index_select(1, rows))[0]  # [n, V]: no other place is scored
        logs = precise(scores).log_softmax(-1)
        return logs.gather(1, ids[:, None]).sum(), target

    return aim


def chosen(wish: Wish, written: Written) -> tuple[list[int], str]:
    """The places of a word that was named or counted, and the word."""
    words = written.words
    spelled = [(run, word(words.text, words.places, run)) for run in group(words.text, words.places)]
    spelled = [(run, name) for run, name in spelled if run[0] not in words.signs and name.strip()]
    runs, names = [run for run, _ in spelled], [name for _, name in spelled]
    if not runs:
        raise ArgumentError("No word was written that could be the target; leave it out")
    found = [i for i, name in enumerate(names) if name == wish]
    if not found and str(wish).isdecimal():
        found = [int(wish)] if int(wish) < len(runs) else []
    if len(found) > 1:
        raise ArgumentError(f"'{wish}' stands there {len(found)} times; choose one by its number: {listed(found)}")
    if not found:
        raise ArgumentError(
            f"target must be '{ANSWER}', one of the words, or its number from 0 to {len(runs) - 1}; found '{wish}', and"
            f" the words are {', '.join(map('{} {}'.format, range(60), names))}{' …' if len(names) > 60 else ''}"
        )
    return runs[found[0]], names[found[0]]


def listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
