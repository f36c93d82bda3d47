"""Statistics by identities: a fused kernel that is given other values tells of its weights, and nobody writes them out.

Keys as values give each query's mean key, and so its mean score; cells of places give masses and moments; scores twice
as large give squares; queries and keys exchanged give what each key receives. Every call is one of PyTorch's fused
kernels in float32 (float64 for float64 inputs), apart from the call that made the output: half-width sums would be off
in the third digit. Memory is O(tokens x 128). The way for GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend

from polyhead.operator.answers import Grid, Sums
from polyhead.operator.kernels import aten, fused
from polyhead.operator.kernels.blockwise import shift, spans
from polyhead.operator.observe import Observe
from polyhead.operator.request import CAUSAL, Request, finite, usable
from polyhead.operator.rules import Causal, Frame, Keys, Rule, Window, index

COLUMNS = 128  # of values in one call
CELLS = COLUMNS // 3  # of places: three columns each, so that one call tells of all
HIDDEN = -1e30  # as good as -inf to a softmax; but a row of nothing else stays finite, and comes to weights of 0


# ---------------------------------------------------------------------------------------------------------- what it can


def can(request: Request, observe: Observe) -> str | None:
    """None, or why no identity gives what is asked, or no fused kernel serves."""
    device = request.query.device.type
    if device not in CALLS or aten.call_of(device, CALLS[device].backend) is None:
        return f"no fused kernel of PyTorch tells its log-sum-exp on {device}"
    if device != "cpu" and request.query.dtype == torch.float64:
        return f"PyTorch fuses nothing in float64 on {device}"
    if observe.links:
        return "no identity names the strongest links"
    if observe.max_map is not None:
        return "no identity gives the largest weight of a cell"
    foreign = fused.lacks(request)
    if foreign is not None:
        return foreign
    if observe.entropy and request.bias is not None:
        return "keys as values give the mean score without its bias"
    if not request.query.shape[0] * request.query.shape[2] * request.key.shape[2]:
        return "there is nothing to look at"
    for each in (request, past(request)) if observe.distance else (request,):
        extent = fused.written_out(each)
        if extent is not None and min(extent[2:]) > 1 and extent[2] * extent[3] > fused.PLANE:
            pairs = extent[2] * extent[3]
            return f"a mask or bias must be written out, T * S = {pairs} pairs, more than {fused.PLANE}"
    if not (finite(request.query) and (request.finite or finite(request.key))):
        return "query or key holds NaN or Inf"
    bias = request.weights
    if bias is not None and not (usable(bias) and bool(((bias > HIDDEN) | (bias == -torch.inf)).all())):
        return f"the bias holds NaN, Inf or numbers below {HIDDEN}"
    return None


def slower(request: Request, observe: Observe) -> str | None:
    """None where this is the fastest way, or the reason why not."""
    if request.query.device.type == "cpu":
        return "on a CPU one look at every weight takes less than several fused calls"
    return None


# ----------------------------------------------------------------------------------------------------------------- look


def look(request: Request, lse: Tensor, observe: Observe) -> Sums:
    """One fused call, and one more for squares, for places (two if the future may be seen), for what is received, and
    for every 128 columns of the map."""
    scores, level = scores_of(request), shift(lse.double())
    K = request.query.shape[3]
    mean_key, own = attended(scores, scores.columns[..., :K])
    mass = (own - level).exp()  # of what the log-sum-exp counts, a sink included, the share of the keys
    unasked = torch.full_like(mass, torch.nan)
    entropy = squares = unasked
    offset = offset2 = distance = None
    if observe.entropy:
        entropy = mass * (level - (scores.rows[..., :K] * mean_key).sum(-1, dtype=torch.float64))
    if observe.squares:  # sum p^2 = exp(lse(2 s) - 2 lse(s))
        squares = (attended(scores.times(2.0))[1] - 2 * level).exp()
    if observe.distance:
        mean, mean2, _ = moments(scores, request.frame)
        offset, offset2, distance = mass * mean, mass * mean2, -mass * mean
        if not hides_future(request.rule):  # sum p |x| = sum p x - 2 sum p x over x < 0
            before, _, seen = moments(scores_of(past(request)), request.frame)
            distance = offset - 2 * (seen - level).exp() * before
    return Sums(
        mass=mass, entropy=entropy, squares=squares, offset=offset, offset2=offset2, distance=distance,
        scores=None, keys=None, max_map=None,
        received=received_of(scores, lse) if observe.received else None,
        mean_map=None if observe.mean_map is None else pooled(scores, mass, observe.mean_map),
        parts=on_keys(scores, mass, {n: part for n, part in observe.regions(request.frame).items()
                                     if isinstance(part, Keys)}),
    )  # fmt: skip


def past(request: Request) -> Request:
    """The same call, of the keys that do not stand right of their query; itself where there are no others."""
    return request if hides_future(request.rule) else replace(request, rule=CAUSAL & request.rule)


def hides_future(rule: Rule | None) -> bool:
    parts = () if rule is None else rule.parts()
    return any(isinstance(part, Causal) or (isinstance(part, Window) and part.right == 0) for part in parts)


def moments(scores: Scores, frame: Frame) -> tuple[Tensor, Tensor, Tensor]:
    """The means of x and x^2 of each query's keys, x = key's place - query's place, and the log-sum-exp: [B, H, T].

    A spread is a small difference of large squares, and float32 would lose it: of a head that looks at one far key
    nothing would be right. So the keys are cut into cells, and of each the call tells the mass, and the moments about
    its own middle, which are small; float64 puts them together. What the variance is off by does not grow with the
    squares of offsets, but with those of half a cell: about 1e-7 (S / 84)^2.
    """
    S, device = frame.n_keys, frame.device
    cells = min(CELLS, S)
    place, number = torch.arange(S, device=device), torch.arange(cells, device=device)
    cell, middle = place * cells // S, (2 * number + 1) * S // (2 * cells)
    y = (place - middle[cell])[:, None]
    inside = (cell[:, None] == number).to(y.dtype)  # [S, cells]
    means, own = attended(scores, torch.cat((inside, inside * y, inside * y.square()), -1))
    m = middle.double()
    one, none = torch.ones_like(m), torch.zeros_like(m)
    back = [torch.cat((one, none, none)), torch.cat((m, one, none)), torch.cat((m.square(), 2 * m, one))]
    whole, first, second = (means.double() @ torch.stack(back, -1)).unbind(-1)  # of 1, j and j^2
    first, second = first / whole, second / whole  # whole is 1 but for roundings, which all three share
    stood = frame.stand(range(frame.n_queries))[..., 0].double()  # [1 or B, 1, T]
    return first - stood, second - 2 * stood * first + stood.square(), own


def received_of(scores: Scores, lse: Tensor) -> Tensor:
    """What each key receives, [B, H, S] float64: its log is the log-sum-exp over queries of score - lse."""
    fall = (-lse).masked_fill(lse == -torch.inf, HIDDEN)[..., None]
    turned = replace(scores, rows=beside(scores.rows, fall), columns=with_ones(scores.columns)).turned()
    found = attended(turned)[1].exp()
    return found.flip(2) if scores.causal else found


def on_keys(scores: Scores, mass: Tensor, parts: Mapping[str, Keys]) -> dict[str, Tensor]:
    """The weight on each of these groups of keys, [B, H, T] float64: a column of values that is 1 there."""
    found: dict[str, Tensor] = {}
    for some in spans(range(len(parts)), COLUMNS):
        names = [*parts][some.start : some.stop]
        inside = scores.columns.new_zeros(scores.columns.shape[2], len(names))
        for n, name in enumerate(names):
            inside[parts[name].keys, n] = 1.0
        means, _ = attended(scores, inside)
        found |= dict(zip(names, (mass[..., None] * means).unbind(-1), strict=True))
    return found


def pooled(scores: Scores, mass: Tensor, cells: tuple[int, int]) -> Tensor:
    """The map summed over the cells of a grid, [B, H, R, C] float64: columns in the call, then rows."""
    grid = Grid.of(cells, scores.rows.shape[2], scores.columns.shape[2])
    cell = torch.arange(grid.keys, device=mass.device)[:, None] * grid.columns // grid.keys  # [S, 1]
    found: list[Tensor] = []
    for some in spans(range(grid.columns), COLUMNS):
        means, _ = attended(scores, cell == index(some, mass.device))
        bars = means * mass[..., None].to(means.dtype)  # [B, H, T, c]
        ends = pairwise([0, *grid.row_ends()])
        found.append(torch.stack([bars[:, :, a:b].sum(2, dtype=torch.float64) for a, b in ends], 2))
    return torch.cat(found, -1)


# --------------------------------------------------------------------------------------------------------------- scores


@dataclass(frozen=True, eq=False)
class Scores:
    """The final scores of a call, rows @ columnsT + plane, as a fused kernel takes them."""

    rows: Tensor  # [B, H, T, W]
    columns: Tensor  # [B, H, S, W]
    plane: Tensor | None  # broadcastable to [B, H, T, S]
    causal: bool  # row i sees column j if j <= i; there are as many of the one as of the other

    def times(self, n: float) -> Scores:
        return replace(self, rows=self.rows * n, plane=None if self.plane is None else self.plane * n)

    def turned(self) -> Scores:
        """Columns look at rows; causal ones from the last to the first, so that the past is on the left again."""
        plane = None if self.plane is None else self.plane.mT.contiguous()
        if self.causal:
            return Scores(self.columns.flip(2), self.rows.flip(2), plane, True)
        return Scores(self.columns, self.rows, plane, False)


def scores_of(request: Request) -> Scores:
    """A call's scores, each query head with keys of its own. What hides or adds the same in a whole row or column needs
    no plane: it is one more feature, times 1."""
    dtype = torch.promote_types(request.query.dtype, torch.float32)
    rows = (request.query.to(dtype) * request.scale).contiguous()
    columns = request.key.to(dtype).repeat_interleave(rows.shape[1] // request.key.shape[1], 1)
    causal = fused.top_left(request)
    added = None if causal else fused.written(request)
    if added is None:
        return Scores(rows, columns, None, causal)
    if added.dtype == torch.bool:
        added = torch.zeros_like(added, dtype=dtype).masked_fill(~added, HIDDEN)
    added = added.detach().to(dtype).clamp(min=HIDDEN)
    if added.shape[2] == 1:
        return Scores(with_ones(rows), beside(columns, added.mT), None, False)
    if added.shape[3] == 1:
        return Scores(beside(rows, added), with_ones(columns), None, False)
    return Scores(rows, columns, added, False)


def beside(x: Tensor, column: Tensor) -> Tensor:
    """[B, H, n, W] and one more feature, broadcastable to [B, H, n, 1]."""
    return torch.cat((x, column.to(x.dtype).expand(*x.shape[:3], 1)), -1)


def with_ones(x: Tensor) -> Tensor:
    return F.pad(x, (0, 1), value=1.0)


# ---------------------------------------------------------------------------------------------------------- fused calls


def attended(scores: Scores, values: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """softmax(scores) @ values, [S, n] or [B, H, S, n] -> [B, H, T, n]; and the log-sum-exp [B, H, T], float64.

    Without values, the log-sum-exp alone.
    """
    columns = scores.columns
    values = columns.new_zeros(columns.shape[2], 1) if values is None else values.to(columns.dtype)
    out, lse = CALLS[columns.device.type].run(scores, values)
    return out[..., : values.shape[-1]], lse.double()


def on_cpu(scores: Scores, values: Tensor) -> tuple[Tensor, Tensor]:
    """Queries, keys and values must be of one width."""
    width = max(values.shape[-1], scores.rows.shape[-1])
    query, key, value = (F.pad(x, (0, width - x.shape[-1])) for x in (scores.rows, scores.columns, values))
    return aten.flash_on_cpu(query, key, value.expand_as(key), scores.plane, scores.causal, 1.0)


def on_cuda(scores: Scores, values: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of tensors and of the plane must start on 16 bytes."""
    query, key, value = (F.pad(x, (0, -x.shape[-1] % 8)) for x in (scores.rows, scores.columns, values))
    (B, H, T, _), S, plane = query.shape, key.shape[2], scores.plane
    if plane is not None:
        plane = F.pad(plane, (0, -S % 16))[..., :S].expand(B, H, T, S)
    return aten.efficient(query, key, value.expand(B, H, S, -1), plane, scores.causal, 1.0)


@dataclass(frozen=True)
class Call:
    """A fused kernel that takes float32 and tells its log-sum-exp."""

    backend: SDPBackend
    run: Callable[[Scores, Tensor], tuple[Tensor, Tensor]]


CALLS = {
    "cpu": Call(SDPBackend.FLASH_ATTENTION, on_cpu),
    "cuda": Call(SDPBackend.EFFICIENT_ATTENTION, on_cuda),
}
