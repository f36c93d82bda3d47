"""The door of the operator: arguments enter as people write them, are checked once, and leave as one `Request`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from numbers import Real
from typing import Any, cast

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.operator import rules
from polyhead.operator.rules import Bias, Causal, DenseBias, Frame, Lengths, Mask, Rule, ScoreMod, Segments, Window

CAUSAL = Causal()
LARGEST = torch.finfo(torch.float32).max
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, eq=False)
class Request:
    """One call of the operator, checked: what every kernel reads. It trusts its fields and never looks at a keyword."""

    query: Tensor  # [B, H, T, K]
    key: Tensor  # [B, G, S, K]
    value: Tensor  # [B, G, S, Kv]
    rule: Rule | None
    bias: Bias | None
    scale: float
    softcap: float | None
    sinks: Tensor | None  # [H]
    dropout: float
    finite: bool  # the caller vouches that key and value hold no NaN and no Inf
    score_mod: ScoreMod | None = None  # in the place of softcap and bias

    @cached_property
    def frame(self) -> Frame:
        return frame_of(self.query, self.key, self.rule)

    @property
    def hides(self) -> bool:
        """Whether some query may not see some key; a bias tensor may hold -inf, and a function may give it."""
        if isinstance(self.bias, DenseBias) or self.score_mod is not None:
            return True
        return self.rule is not None and self.rule.extent(self.frame) is not None

    @cached_property
    def poisoned(self) -> bool:
        """Whether something is hidden while some NaN or Inf is about, which must not pass through what is hidden."""
        if not self.hides:
            return False
        searched = (self.query, self.key, self.value)
        if self.finite:  # a query can spoil more than its own row only backward
            searched = (self.query,) if torch.is_grad_enabled() else ()
        return not (all(finite(x) for x in searched) and (self.weights is None or usable(self.weights)))

    @property
    def weights(self) -> Tensor | None:
        """The tensor behind the bias that gradients reach."""
        return None if self.bias is None else self.bias.weights

    def without_values(self) -> Request:
        """The same call with values of no width [B, G, S, 0]: all that its weights depend on."""
        return replace(self, value=no_values(self.key))

    def detached(self) -> Request:
        """The same call on the same memory, apart from any graph."""
        sinks = None if self.sinks is None else self.sinks.detach()
        query, key, value = (x.detach() for x in (self.query, self.key, self.value))
        bias = None if self.bias is None else self.bias.detached()
        return replace(self, query=query, key=key, value=value, bias=bias, sinks=sinks)

    @property
    def held(self) -> tuple[Tensor, ...]:
        """Every tensor that weights are rebuilt from."""
        parts = (*(() if self.rule is None else self.rule.parts()), *(() if self.bias is None else (self.bias,)))
        inside = [getattr(part, f.name) for part in parts for f in fields(cast(Any, part))]
        return tuple(x for x in (self.query, self.key, self.sinks, *inside) if isinstance(x, Tensor))


def no_values(key: Tensor) -> Tensor:
    """Values of no width [B, G, S, 0] for keys [B, G, S, K], where only weights are wanted."""
    return key.new_empty(*key.shape[:3], 0)


def finite(x: Tensor) -> bool:
    """No NaN, no Inf, and nothing so large that a product with its like could become one: by its norm, in one pass.

    |q . k| is at most |q| |k|, and a norm that float32 can hold is below the root of its largest number.
    """
    return math.isfinite(norm(x))


def norm(x: Tensor) -> float:
    """The root of the sum of squares of all its numbers, in float32 or wider: NaN or Inf if one of them is."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return float(cast(Any, torch.linalg).vector_norm(x.detach(), dtype=wide))


def usable(bias: Tensor) -> bool:
    """No NaN and no +Inf; -inf is a way to hide. A sum that is finite or -inf proves it."""
    bias = bias.detach()
    return float(bias.sum()) < math.inf or not bool((bias.isnan() | (bias == math.inf)).any())


def ask(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Mask | None = None,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    bias: Tensor | Bias | ScoreMod | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    dropout: float = 0.0,
    segments: Tensor | tuple[Tensor, Tensor] | None = None,
    lengths: Tensor | tuple[Tensor, Tensor] | None = None,
    finite: bool = False,
) -> Request:
    """Check every argument and compose one rule from the keywords; raises ArgumentError."""
    check_tensors(query, key, value)
    check_flag("causal", causal)
    check_flag("finite", finite)
    check_pair("segments", segments)
    check_pair("lengths", lengths)
    if not (is_number(dropout) and 0 <= dropout < 1):
        raise ArgumentError(f"dropout must be at least 0 and below 1; found {dropout!r}")
    if softcap is not None and not (is_number(softcap) and 0 < softcap <= LARGEST):
        raise ArgumentError(
            f"softcap must be a number above 0 that float32 can hold, or None for none; found {softcap!r}"
        )
    if scale is not None and not (is_number(scale) and abs(scale) <= LARGEST):
        raise ArgumentError(
            f"scale must be a finite number that float32 can hold, or None for 1 / sqrt(K); found {scale!r}"
        )
    score_mod = bias if isinstance(bias, ScoreMod) else None
    if score_mod is not None and softcap is not None:
        raise ArgumentError("a ScoreMod stands in the place of softcap; found both: let the function do it")
    request = Request(
        query,
        key,
        value,
        compose(mask, causal, window, segments, lengths),
        None if score_mod else bias if bias is None or isinstance(bias, Bias) else dense_bias(bias),
        query.shape[3] ** -0.5 if scale is None else float(scale),
        None if softcap is None else float(softcap),
        sinks,
        dropout,
        finite,
        score_mod,
    )
    if request.rule is not None or request.bias is not None or sinks is not None or score_mod is not None:
        check_values(request)
    return request


def frame_of(query: Tensor, key: Tensor, rule: Rule | None) -> Frame:
    """The frame of a call: its diagonal is bottom-right, S - T, or each sequence's own if `Lengths` counts queries."""
    B, H, T, _ = query.shape
    S = key.shape[2]
    frame = Frame(B, H, T, S, S - T, query.device)
    parts = () if rule is None else rule.parts()
    counts = [part for part in parts if isinstance(part, Lengths) and part.queries is not None]
    if not counts:
        return frame
    if len(counts) > 1:
        raise ArgumentError("only one rule may count queries; found two Lengths with queries")
    counts[0].check(frame)
    return replace(frame, diagonal=counts[0].diagonal())


def compose(
    mask: Mask | None,
    causal: bool,
    window: tuple[int | None, int | None] | None,
    segments: Tensor | tuple[Tensor, Tensor] | None,
    lengths: Tensor | tuple[Tensor, Tensor] | None,
) -> Rule | None:
    """One rule that holds all that was asked for; None if nothing was."""
    found = None if mask is None else rules.rule(mask)
    if causal:
        found = CAUSAL & found
    if window is not None:
        check_window(window)
        found = Window(*window) & found
    if segments is not None:
        queries, keys = segments if isinstance(segments, tuple) else (segments, None)
        found = Segments(queries, keys) & found
    if lengths is not None:
        queries, keys = lengths if isinstance(lengths, tuple) else (None, lengths)
        found = Lengths(keys, queries) & found
    return found


def chosen(name: str, indices: Sequence[int] | Tensor | None, n: int, device: torch.device) -> Tensor:
    """Indices as a tensor, all of them if None; refuses those outside the map."""
    if indices is None:
        return torch.arange(n, device=device)
    found = whole_numbers(indices, device)
    if found is None:
        raise ArgumentError(f"{name} must be a list of whole numbers or None; found {indices!r}")
    low, high = (int(found.min()), int(found.max())) if found.numel() else (0, -1)
    if low < 0 or high >= n:
        raise ArgumentError(f"{name} must lie between 0 and {n - 1}; found {low if low < 0 else high}")
    return found


def whole_numbers(indices: object, device: torch.device) -> Tensor | None:
    """Indices [n], int64, of a range, a list or a tensor; None where they are not that."""
    if isinstance(indices, range):
        return torch.arange(indices.start, indices.stop, indices.step, device=device)
    try:
        found = torch.as_tensor(indices, device=device)
    except (TypeError, ValueError, RuntimeError):
        return None
    if not found.numel() and found.dim() == 1:
        return found.to(torch.long)
    if found.dim() != 1 or found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        return None
    return found.to(torch.long)


def check_window(window: object) -> None:
    if not isinstance(window, tuple) or len(cast(tuple[Any, ...], window)) != 2:
        raise ArgumentError(f"window must be a pair (left, right), None for no bound; found {window!r}")


def dense_bias(bias: object) -> DenseBias:
    if not isinstance(bias, Tensor):
        raise ArgumentError(
            f"bias must be a float tensor, Alibi, Buckets, ScoreMod or None; found {type(bias).__name__}"
        )
    return DenseBias(bias)


def is_number(x: object) -> bool:
    return not isinstance(x, bool) and isinstance(x, Real) and math.isfinite(x)


def check_flag(name: str, x: object) -> None:
    if not isinstance(x, bool):
        raise ArgumentError(f"{name} must be True or False; found {x!r}")


def check_pair(name: str, x: object) -> None:
    """Refuse tuples of more or fewer than queries and keys."""
    if isinstance(x, tuple) and len(cast(tuple[Any, ...], x)) != 2:
        count = len(cast(tuple[Any, ...], x))
        raise ArgumentError(f"{name} must be a tensor or a pair (queries, keys) of them; found {count} of them")


def check_tensors(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Refuse queries, keys and values that do not fit each other."""
    B, H, _, K = axes_of("query", query, "B, H, T, K")
    B_key, G, S, K_key = axes_of("key", key, "B, G, S, K")
    B_value, G_value, S_value, _ = axes_of("value", value, "B, G, S, Kv")
    if not (B == B_key == B_value and G == G_value and S == S_value and K == K_key):
        raise ArgumentError(
            "query [B, H, T, K], key [B, G, S, K] and value [B, G, S, Kv] must share B, G, S and K;"
            f" found {list(query.shape)}, {list(key.shape)} and {list(value.shape)}"
        )
    if not G or not H or H % G:
        raise ArgumentError(
            f"the heads of query ({H}) must be a multiple of the heads of key and value ({G}), and at least 1"
        )
    if not K:
        raise ArgumentError(f"query must have a head width K of at least 1; found {list(query.shape)}")
    if not (query.dtype == key.dtype == value.dtype and query.dtype in FLOATS):
        raise ArgumentError(
            "query, key and value must have one dtype of float64, float32, float16 and bfloat16; found"
            f" {query.dtype}, {key.dtype} and {value.dtype}"
        )
    if not (query.device == key.device == value.device):
        raise ArgumentError(
            f"query, key and value must be on one device; found {query.device}, {key.device} and {value.device}"
        )


def axes_of(name: str, x: Tensor, axes: str) -> torch.Size:
    shape = rules.check_tensor(name, x).shape
    if len(shape) != 4:
        raise ArgumentError(f"{name} must have 4 axes [{axes}]; found {list(shape)}")
    return shape


def check_values(request: Request) -> None:
    """Refuse rules, biases and sinks that do not fit the tensors."""
    frame, rule, bias = request.frame, request.rule, request.bias
    if rule is not None:
        rule.check(frame)
        parts = rule.parts()
        if frame.n_queries != frame.n_keys and any(isinstance(part, Segments) for part in parts):
            crossing = [type(part).__name__ for part in (*parts, bias) if part is not None and part.follows_diagonal]
            if crossing:
                raise ArgumentError(
                    f"{crossing[0]} with segments needs as many queries as keys, since positions must line up"
                    f" in every segment; found T = {frame.n_queries} and S = {frame.n_keys}"
                )
    for each in (bias, request.score_mod):
        if each is not None:
            each.check(frame)
    for name, x in (("sinks", request.sinks), ("bias" if bias is None else bias.name, request.weights)):
        if x is None:
            continue
        rules.check_tensor(name, x)
        if x.dtype not in (request.query.dtype, torch.float32) or x.device != frame.device:
            raise ArgumentError(
                f"{name} must be {request.query.dtype} as query is, or torch.float32, on {frame.device};"
                f" found {x.dtype} on {x.device}"
            )
    if request.sinks is not None and tuple(request.sinks.shape) != (frame.heads,):
        raise ArgumentError(f"sinks must have shape [H] = [{frame.heads}]; found {list(request.sinks.shape)}")
