"""What a stack is made of, as one frozen value: a family file states it, the stack builds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from polyhead.core.norm import LayerNorm, RMSNorm
from polyhead.core.position import Position
from polyhead.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class Biases:
    """Which products of a block have something added to them."""

    query: bool = True
    key: bool = True
    value: bool = True
    out: bool = True
    mlp: bool = True


@dataclass(frozen=True, kw_only=True)
class Experts:
    """Many MLPs in the place of one: a router gives each token to `per_token` of the `n` (Shazeer et al. 2017).

    What an expert makes is multiplied by its probability among all (Fedus et al. 2021) or, with `renormalise`, among
    those that the token goes to (Jiang et al. 2024). `capacity` is how many tokens of one sequence an expert takes, the
    first of the text; from the others it adds nothing to x, they are dropped (None: it takes all). `bias`: of the
    router. `exact`: the router computes in float32, whatever the model's numbers are. In training, what the router
    reads is multiplied by noise from 1 - `jitter` to 1 + `jitter`, with `jitter_all` what the experts read too.
    """

    n: int
    per_token: int = 1
    renormalise: bool = False
    capacity: int | None = None
    bias: bool = False
    exact: bool = False
    jitter: float = 0.0
    jitter_all: bool = False

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ArgumentError(f"the number of experts must be at least 1, found {self.n}")
        if not 1 <= self.per_token <= self.n:
            raise ArgumentError(f"experts for each token must be from 1 to all {self.n}, found {self.per_token}")
        if self.capacity is not None and self.capacity < 1:
            raise ArgumentError(f"the capacity of an expert must be at least 1 token, found {self.capacity}")
        if not 0 <= self.jitter <= 1:
            raise ArgumentError(f"the router's jitter must be from 0 to 1, found {self.jitter}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Sizes and kinds of one stack of blocks.

    `n_kv_heads` None means one key/value head for each query head; `head_dim` None means `d_model / n_heads`;
    `scale` None means `head_dim ** -0.5`. `head_norm` norms every query and key of every head before it is turned.
    `window` w lets a query see the w keys up to its own (None: all), in every layer or, as a tuple, in each.
    `experts` puts many MLPs in the place of one, in every layer or, as a tuple, in those that have no None.
    `bias` False means none anywhere. Dropouts act in training mode only: `dropout` on what a block adds to x,
    `attention_dropout` on the softmax weights, `activation_dropout` inside the MLP.
    """

    n_layers: int
    d_model: int
    n_heads: int
    d_ff: int
    n_kv_heads: int | None = None
    head_dim: int | None = None
    norm: LayerNorm | RMSNorm = LayerNorm()
    norm_at: Literal["pre", "post"] = "pre"
    final_norm: bool = True
    head_norm: LayerNorm | RMSNorm | None = None
    position: Position = Position()
    activation: str = "gelu"
    gated: bool = False
    experts: Experts | tuple[Experts | None, ...] | None = None
    causal: bool = False
    window: int | tuple[int | None, ...] | None = None
    cross: bool = False
    bias: bool | Biases = True
    scale: float | None = None
    softcap: float | None = None
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("n_layers", "d_model", "n_heads", "d_ff", "n_kv_heads", "head_dim"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ArgumentError(f"{name} must be at least 1, found {size}")
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise ArgumentError(f"{name} must be from 0 to 1, found {share}")
        if self.head_dim is None and self.d_model % self.n_heads:
            raise ArgumentError(
                f"d_model ({self.d_model}) must be a multiple of n_heads ({self.n_heads}), or head_dim must be given"
            )
        if self.n_heads % self.kv_heads:
            raise ArgumentError(f"n_heads ({self.n_heads}) must be a multiple of n_kv_heads ({self.kv_heads})")
        if len(self.windows) != self.n_layers or any(w is not None and w < 1 for w in self.windows):
            raise ArgumentError(
                f"window must be None, a whole number of at least 1, or one of these for each of the {self.n_layers}"
                f" layers; found {self.window}"
            )
        if len(self.mixtures) != self.n_layers:
            raise ArgumentError(
                f"experts must be one value, or one or None for each of the {self.n_layers} layers; found"
                f" {len(self.mixtures)}"
            )
        if not self.causal and any(w is not None for w in self.windows):
            raise ArgumentError("window counts keys before a query, so that it needs causal = True")

    @property
    def kv_heads(self) -> int:
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_width(self) -> int:
        return self.d_model // self.n_heads if self.head_dim is None else self.head_dim

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Of each layer."""
        return self.window if isinstance(self.window, tuple) else (self.window,) * self.n_layers

    @property
    def mixtures(self) -> tuple[Experts | None, ...]:
        """The experts of each layer."""
        return self.experts if isinstance(self.experts, tuple) else (self.experts,) * self.n_layers

    @property
    def biases(self) -> Biases:
        if isinstance(self.bias, Biases):
            return self.bias
        return Biases(query=self.bias, key=self.bias, value=self.bias, out=self.bias, mlp=self.bias)
