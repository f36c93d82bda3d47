"""What a call tells of its heads: heads made by hand have the numbers they must, and all agree with formulas written
out in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from polyhead.errors import ArgumentError
from polyhead.lens.roles.axis import Axis
from polyhead.lens.roles.measure import LOST, Measured, measure
from polyhead.lens.roles.tally import Tally
from polyhead.operator import Causal, Lengths
from tests.lens.roles.made import at, call_of, drawn

TOKENS = ["[CLS]", "a", "b", ",", "a", "c", "b", "a", ".", "[SEP]"]
TEXT = Axis.words(TOKENS, [0, 5, 6, 7, 5, 8, 6, 5, 9, 1], [0, 9], ends=frozenset({9}))
N = len(TOKENS)
WORDS = range(1, N - 1)  # that count where they look


def told(found: Measured) -> dict[str, list[float]]:
    """Of the first sequence, by metric, a number for each head."""
    return {key: x[0].tolist() for key, x in found.numbers.items()}


def settled(found: Measured) -> dict[str, Any]:
    tally = Tally()
    tally.add(found)
    return {key: x[0] for key, x in tally.settled().items()}


# ------------------------------------------------------------------------------------------- heads with known answers


@pytest.mark.parametrize(
    ("key", "of"),
    [
        ("previous", lambda i: i - 1), ("next", lambda i: i + 1), ("itself", lambda i: i), ("sink", lambda i: 0),
        ("special", lambda i: N - 1), ("delimiter", lambda i: 8), ("local", lambda i: i - 2),
    ],
)  # fmt: skip
def test_a_head_that_does_one_thing_does_it_wholly(key: str, of: Any) -> None:
    own, _ = measure(call_of(at(N, N, of)[None, None]), [TEXT], [TEXT])
    assert told(own)[key] == pytest.approx([1.0], abs=1e-9)


def test_an_even_head_is_as_chance_is() -> None:
    own, lucky = measure(call_of(torch.full((1, 1, N, N), 1 / N)), [TEXT], [TEXT])
    numbers, chance = told(own), told(lucky)
    assert numbers["evenness"] == pytest.approx([1.0]) and numbers["keys"] == pytest.approx([N])
    assert numbers["entropy"] == pytest.approx([np.log(N)])
    for key in ("previous", "next", "itself", "sink", "special", "delimiter", "local", "distance", "prefix"):
        assert numbers[key] == pytest.approx(chance[key], abs=1e-9), key
    assert chance["previous"] == pytest.approx([1 / N]) and chance["special"] == pytest.approx([2 / N])


def test_a_head_of_one_key_has_no_entropy() -> None:
    numbers = told(measure(call_of(at(N, N, lambda i: i - 1)[None, None]), [TEXT], [TEXT])[0])
    assert numbers["entropy"] == pytest.approx([0.0], abs=1e-9) and numbers["keys"] == pytest.approx([1.0])
    assert numbers["distance"] == pytest.approx([1.0]) and numbers["confidence"] == pytest.approx([1.0])


def test_confidence_leaves_the_end_out_and_only_the_end() -> None:
    weights = torch.zeros(1, 2, N, N)
    weights[:, 0, :, N - 1], weights[:, 0, :, 0] = 0.7, 0.3
    weights[:, 1, :, 0], weights[:, 1, :, N - 1] = 0.7, 0.3
    own, _ = measure(call_of(weights), [TEXT], [TEXT])
    assert told(own)["confidence"] == pytest.approx([0.3, 0.7])


B = 4
COPIES = Axis.words(["[CLS]", *"wxyz" * 3, "[SEP]"], [0, *[5, 6, 7, 8] * 3, 1], [0, 13], block=B)


def earlier(i: int, step: int) -> list[int]:
    """The places beside each earlier occurrence of the token at i, as the formula of prefix matching has them."""
    assert COPIES.ids is not None
    before = [j for j in range(1, i) if COPIES.ids[j] == COPIES.ids[i]]
    return [j + step for j in before if 0 < j + step <= i]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("step", [1, -1])
def test_prefix_matching_has_two_ways_and_each_head_fits_one(step: int, causal: bool) -> None:
    """The literal sentence of the paper's appendix is -1, the usual telling +1."""
    n = COPIES.count
    weights = torch.zeros(n, n)
    for i in range(n):
        some = earlier(i, step) or [0]
        weights[i, some] = 1 / len(some)
    call = call_of(weights[None, None], rule=Causal() if causal else None)
    same, other = (told(measure(call, [COPIES], [COPIES], shift=shift)[0]) for shift in (step, -step))
    assert same["prefix"] == pytest.approx([1.0], abs=1e-9)
    assert other["prefix"][0] < 0.01 or step == -1
    assert other["prefix"][0] < 0.6


def test_an_induction_head_looks_at_what_followed_last_time_and_a_duplicate_head_at_the_token_itself() -> None:
    n = COPIES.count
    heads = torch.stack([at(n, n, lambda i: i - B + 1 if i > B else 0), at(n, n, lambda i: i - B if i > B else 0)])
    own, lucky = measure(call_of(heads[None], rule=Causal()), [COPIES], [COPIES])
    numbers = told(own)
    assert numbers["induction"] == pytest.approx([1.0, 0.0], abs=1e-9)
    assert numbers["duplicate"] == pytest.approx([0.0, 1.0], abs=1e-9)
    places = range(1 + B, n - 1)  # the later copies
    assert told(lucky)["induction"] == pytest.approx([np.mean([1 / (i + 1) for i in places])] * 2)


def test_a_positional_head_keeps_its_offset_in_most_rows() -> None:
    heads = torch.stack([at(N, N, lambda i: i - 1), at(N, N, lambda i: i + 1 if i % 2 else i - 3)])
    numbers = settled(measure(call_of(heads[None]), [TEXT], [TEXT])[0])
    assert numbers["positional"][0] == 1.0 and numbers["offset"].tolist() == [-1.0, 1.0]
    assert numbers["positional"][1] == pytest.approx(0.5)


def test_alignment_is_whether_a_head_moves_on() -> None:
    target, source = Axis(6), Axis(9, special=frozenset({8}), ends=frozenset({8}))
    heads = torch.stack([at(6, 9, lambda i: i), at(6, 9, lambda i: 7 - i), at(6, 9, lambda i: 4)])
    own, _ = measure(call_of(heads[None], kind="cross"), [target], [source])
    assert told(own)["alignment"][:2] == pytest.approx([1.0, -1.0])
    assert np.isnan(told(own)["alignment"][2])  # which stays where it is
    assert "previous" not in own.numbers and "distance" not in own.numbers and own.offsets is None


ROWS, COLUMNS = 3, 4
IMAGE = Axis.patches(ROWS, COLUMNS, before=1)


def patch(y: int, x: int) -> int:
    return 1 + (y % ROWS) * COLUMNS + x % COLUMNS


def of_patch(to: Any) -> Tensor:
    """A head of an image: from the patch at (y, x) to those of `to(y, x)`, all alike; [CLS] looks at itself."""
    n = IMAGE.count
    weights = torch.zeros(n, n)
    weights[0, 0] = 1.0
    for y in range(ROWS):
        for x in range(COLUMNS):
            some = [(b, a) for b, a in to(y, x) if 0 <= b < ROWS and 0 <= a < COLUMNS] or [(y, x)]
            for b, a in some:
                weights[patch(y, x), patch(b, a)] += 1 / len(some)
    return weights


LINES: dict[str, Any] = {
    "row": lambda y, x: [(y, a) for a in range(COLUMNS) if a != x],
    "column": lambda y, x: [(b, x) for b in range(ROWS) if b != y],
    "diagonal": lambda y, x: [
        (b, a) for b in range(ROWS) for a in range(COLUMNS) if abs(b - y) == abs(a - x) and (b, a) != (y, x)
    ],
}


@pytest.mark.parametrize("line", LINES)
def test_a_head_that_looks_along_a_line_of_the_image_is_found_on_it(line: str) -> None:
    own, _ = measure(call_of(of_patch(LINES[line])[None, None]), [IMAGE], [IMAGE])
    numbers = told(own)
    for each in LINES:
        assert numbers[each] == pytest.approx([1.0 if each == line else 0.0], abs=1e-9), each
    assert numbers["special"] == pytest.approx([0.0], abs=1e-9)


def test_a_head_that_looks_at_the_whole_image_has_the_offsets_of_its_middle() -> None:
    own, lucky = measure(call_of(torch.full((1, 1, 13, 13), 1 / 13)), [IMAGE], [IMAGE])
    numbers = told(own)
    assert numbers["dx"] == pytest.approx([0.0], abs=1e-9) and numbers["dy"] == pytest.approx([0.0], abs=1e-9)
    assert numbers["spread"] == pytest.approx([np.sqrt(15 / 12 + 8 / 12)])  # of 0..3 and of 0..2
    assert told(lucky)["row"] == pytest.approx([3 / 13])
    assert "previous" not in numbers and "distance" not in numbers


def test_a_head_that_looks_one_patch_to_the_right_has_that_offset() -> None:
    own, _ = measure(call_of(of_patch(lambda y, x: [(y, x + 1)])[None, None]), [IMAGE], [IMAGE])
    numbers = told(own)
    assert numbers["dx"] == pytest.approx([0.75]) and numbers["dy"] == pytest.approx([0.0], abs=1e-9)  # 3 of 4 can
    assert settled(own)["positional"] == pytest.approx([0.75])


# ---------------------------------------------------------------------------------------------- formulas written out


def dense(P: Tensor, ids: list[int], causal: bool, shift: int) -> dict[str, float]:
    """Every metric of a text by its formula, with loops over one matrix."""
    special, stops, n = TEXT.special, TEXT.delimiters, len(ids)
    queries = [i for i in range(n) if i not in special and (i >= 1 or not causal)]
    sees = {i: [j for j in range(n) if j <= i or not causal] for i in queries}
    sets: dict[str, Any] = {
        "previous": lambda i: [i - 1], "next": lambda i: [i + 1], "itself": lambda i: [i], "sink": lambda i: [0],
        "local": lambda i: range(i - 2, i + 3), "special": lambda i: special, "delimiter": lambda i: stops,
        "duplicate": lambda i: [j for j in range(i) if ids[j] == ids[i]],
        "prefix": lambda i: [j for j in range(n) if j - shift in range(i) and j <= i and ids[j - shift] == ids[i]],
    }  # fmt: skip
    found: dict[str, float] = {}
    for key, of in sets.items():
        asked = [(i, [j for j in of(i) if j in sees[i]]) for i in queries]
        asked = [(i, some) for i, some in asked if some]
        if asked:
            found[key] = float(np.mean([float(P[i, some].sum()) for i, some in asked]))
    H = {i: -float(torch.xlogy(P[i], P[i]).sum()) for i in queries}
    found["entropy"] = float(np.mean([H[i] for i in queries]))
    found["evenness"] = float(np.mean([H[i] / np.log(len(sees[i])) for i in queries]))
    found["keys"] = float(np.mean([np.exp(H[i]) for i in queries]))
    found["distance"] = float(np.mean([float((P[i] * (torch.arange(n) - i).abs()).sum()) for i in queries]))
    found["confidence"] = float(
        np.mean([float(P[i, [j for j in range(n) if j not in TEXT.ends]].max()) for i in queries])
    )
    return found


@pytest.mark.parametrize("shift", [1, -1])
@pytest.mark.parametrize("causal", [True, False], ids=["decoder", "encoder"])
def test_every_number_of_a_text_is_its_formula(causal: bool, shift: int) -> None:
    hidden = torch.ones(N, N).triu(1).bool() if causal else None
    P = drawn(1, 3, N, N, hidden=hidden)
    own, _ = measure(call_of(P, rule=Causal() if causal else None), [TEXT], [TEXT], shift=shift)
    assert TEXT.ids is not None
    wanted = [dense(P[0, head], list(TEXT.ids), causal, shift) for head in range(3)]
    numbers = told(own)
    for key in wanted[0]:
        assert numbers[key] == pytest.approx([each[key] for each in wanted], abs=1e-9), key
    missing = {key for key, x in numbers.items() if not np.isnan(x).all()} - set(wanted[0])
    assert not missing


def test_the_numbers_of_an_image_are_their_formulas() -> None:
    P = drawn(1, 2, IMAGE.count, IMAGE.count, seed=3)
    numbers = told(measure(call_of(P), [IMAGE], [IMAGE])[0])
    places = [(y, x) for y in range(ROWS) for x in range(COLUMNS)]
    for head in range(2):
        p = P[0, head, 1:, 1:]
        share = p / p.sum(1, keepdim=True)
        y, x = (torch.tensor([place[k] for place in places], dtype=torch.float64) for k in (0, 1))
        dx, dy = share @ x - x, share @ y - y
        spread = ((share @ x.square() - (share @ x).square()) + (share @ y.square() - (share @ y).square())).sqrt()
        for key, wanted in (("dx", dx), ("dy", dy), ("spread", spread)):
            assert numbers[key][head] == pytest.approx(float(wanted.mean()), abs=1e-9), key
        for key, line in LINES.items():
            shares = [float(sum(p[i, b * COLUMNS + a] for b, a in line(*place))) for i, place in enumerate(places)]
            can = [share for share, place in zip(shares, places, strict=True) if line(*place) or key != "diagonal"]
            assert numbers[key][head] == pytest.approx(np.mean(can), abs=1e-9), key


def test_padding_changes_nothing() -> None:
    short = Axis.words(TOKENS[:6], [0, 5, 6, 7, 5, 1], [0, 5], ends=frozenset({5}))
    lengths = torch.tensor([N, 6])
    hidden = torch.arange(N) >= lengths[:, None, None, None]
    P = drawn(2, 3, N, N, hidden=hidden)
    both, chance = measure(call_of(P, rule=Lengths(lengths)), [TEXT, short], [TEXT, short])
    for b, axis in enumerate((TEXT, short)):
        n = axis.count
        alone, its = measure(call_of(P[b : b + 1, :, :n, :n]), [axis], [axis])
        for key, x in alone.numbers.items():
            assert both.numbers[key][b].tolist() == pytest.approx(x[0].tolist(), abs=1e-9, nan_ok=True), key
        for key in ("previous", "entropy", "special", "distance"):
            assert chance.numbers[key][b].tolist() == pytest.approx(its.numbers[key][0].tolist(), nan_ok=True), key
        assert both.offsets is not None and alone.offsets is not None
        assert torch.equal(both.offsets[b, :, :n], alone.offsets[0]) and (both.offsets[b, :, n:] == LOST).all()


def test_queries_of_a_step_stand_behind_the_keys_of_the_cache() -> None:
    whole = drawn(1, 2, N, N, hidden=torch.ones(N, N).triu(1).bool())
    step, _ = measure(call_of(whole[:, :, 5:6, :6], rule=Causal()), [TEXT], [TEXT])
    assert told(step)["previous"] == pytest.approx(whole[0, :, 5, 4].tolist())
    assert told(step)["itself"] == pytest.approx(whole[0, :, 5, 5].tolist())


def test_no_tensor_is_as_large_as_a_map() -> None:
    n = 4096
    sizes: list[int] = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            made = [x for x in (found if isinstance(found, list | tuple) else [found]) if isinstance(x, Tensor)]
            sizes.extend(x.untyped_storage().nbytes() for x in made)
            return found

    from polyhead.lens.recording import Call, Norms
    from polyhead.operator import Statistics, attend

    query, key = torch.randn(2, 1, 1, n, 8, generator=torch.Generator().manual_seed(0)).unbind()
    _, record = attend(query, key, key, mask=Causal())
    made = Call("long", "self", "", {}, record.lse, Norms(key[..., 0], after=False), Statistics(), record.request)
    axis = Axis(n, ids=tuple(i % 50 for i in range(n)))
    with Sizes():
        measure(made, [axis], [axis])
    assert max(sizes) <= 2 * n * n  # bytes; a map of one head takes 4 * n * n


def test_axes_that_do_not_fit_are_refused() -> None:
    call = call_of(drawn(1, 1, N, N))
    with pytest.raises(ArgumentError, match=f"made has {N} queries, but its axis has 4 places"):
        measure(call, [Axis(4)], [Axis(4)])
    with pytest.raises(ArgumentError, match="has 1 sequences; found axes for 2"):
        measure(call, [TEXT, TEXT], [TEXT])
    with pytest.raises(ArgumentError, match="makes 12 places; found 9"):
        Axis(9, grid=(3, 4))
    with pytest.raises(ArgumentError, match="3 places has 3 ids; found 1"):
        Axis(3, ids=(1,))
