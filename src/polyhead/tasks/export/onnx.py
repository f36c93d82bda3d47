"""A loaded model becomes graphs of ONNX, with inputs and outputs by the names that its runtimes know.

An encoder, or a decoder with its past, is one graph, model.onnx. An encoder-decoder is three: encoder_model.onnx,
decoder_model.onnx for the first step, which makes the keys and values of the memory, and decoder_with_past_model.onnx
for every other. Batches and lengths may be any.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from polyhead.core import Run, Stack
from polyhead.core.mlp import MLP
from polyhead.core.rotary import Rotary
from polyhead.errors import ArgumentError, extra
from polyhead.tasks.export.onnx_file import write_graphs
from polyhead.tasks.export.tracing import Past, plainly, traceable
from polyhead.tasks.load import Loaded

Axes = dict[int, str]
B, T, P, S = "batch_size", "sequence_length", "past_sequence_length", "encoder_sequence_length"
OF = ("decoder", "encoder")  # whose keys and values a layer of a decoder holds: its own, and of what it reads
ALL = "total_sequence_length"  # of the past and of what is read now
OPSET = 18
#  what torch says while it traces, and is meant or its own
QUIET = (
    r"# The axis name: .* will not be used",  # two inputs share an axis
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # between parts of torch
)


@dataclass(frozen=True)
class Graph:
    """What is traced into one file: a module, examples of its inputs with those of their axes that vary, and the names
    of what it gives."""

    file: str
    module: nn.Module
    inputs: Mapping[str, tuple[Tensor, Axes]]
    outputs: Sequence[str]


def graphs(loaded: Loaded) -> list[Graph]:
    """The graphs of a model. Raises ArgumentError for one whose computation depends on what it reads."""
    if any(isinstance(module, Stack) and not is_plain(module) for module in loaded.model.modules()):
        raise ArgumentError(
            f"{loaded.folder or 'The model'} holds mixtures of experts, which no graph has here: a router sends every"
            " word elsewhere; polyhead runs such a model itself"
        )
    if loaded.family.towers:
        towers = {"text_model.onnx": loaded.tower("text"), "vision_model.onnx": loaded.tower("image")}
        return [encoder(traceable(tower.model), tower, file) for file, tower in towers.items()]
    model = traceable(loaded.model)
    if not hasattr(model, "decode"):
        return [encoder(model, loaded)]
    return encoder_decoder(model, loaded) if hasattr(model, "encode") else [decoder(model, loaded)]


def is_plain(stack: Stack) -> bool:
    return all(isinstance(cast(Any, block).mlp, MLP) for block in stack.blocks)


def write(folder: Path, some: Sequence[Graph]) -> None:
    """Trace graphs and write them. Raises ArgumentError for one that PyTorch cannot trace, OSError."""
    write_graphs(folder, {graph.file: traced(graph) for graph in some})


def traced(graph: Graph) -> Any:
    """A graph as an onnx_ir.Model."""
    extra("onnxscript", "onnx")
    told = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = told.level
    told.setLevel(logging.ERROR)  # it warns that torchvision is not there, which nothing here is made of
    try:
        with warnings.catch_warnings(), torch.no_grad():
            for of_torch in QUIET:
                warnings.filterwarnings("ignore", of_torch)
            program: Any = torch.onnx.export(
                graph.module.eval(), tuple(example for example, _ in graph.inputs.values()), dynamo=True,
                dynamic_shapes=(tuple(axes for _, axes in graph.inputs.values()),), opset_version=OPSET,
                input_names=list(graph.inputs), output_names=list(graph.outputs), verbose=False,
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as wrong:
        why = next((line for line in str(wrong.__cause__ or wrong).splitlines() if line.strip()), "")
        raise ArgumentError(
            f"{graph.file} of this model cannot be traced by PyTorch {torch.__version__} ({why})"
        ) from wrong
    finally:
        told.setLevel(level)
    return program.model


def ids(*shape: int) -> Tensor:
    """An example of numbers of words, or of a mask."""
    return torch.ones(shape, dtype=torch.long)


def zeros(model: nn.Module, *shape: int) -> Tensor:
    """An example of numbers in the model's own type."""
    return torch.zeros(shape, dtype=next(model.parameters()).dtype)


def real(mask: Tensor) -> Tensor:
    """[B, S] of ones and zeros -> what may be looked at, [B, 1, 1, S]."""
    return (mask != 0)[:, None, None]


# ----------------------------------------------------------------------------------------------------------- the graphs


class Traced(nn.Module):
    """What is traced: `of` the inputs in their order, with attention as `Plain` computes it."""

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        with plainly():
            return self.of(*given)

    def of(self, *given: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError


class EncoderGraph(Traced):
    """What is read, its mask [B, T] where it may be padded, kinds [B, T] -> what `answer` makes of the vectors."""

    def __init__(self, model: Any, answer: Callable[[Tensor, Tensor], tuple[Tensor, ...]]):
        super().__init__()
        self.model, self.answer = model, answer

    def of(self, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        mask, more = real(rest[0]) if rest else None, {"kinds": rest[1]} if len(rest) > 1 else {}
        return self.answer(self.model.encode(x, Run(mask=mask), **more), x)


def encoder(model: Any, loaded: Loaded, file: str = "model.onnx") -> Graph:
    kind, c = loaded.family, model.config
    match kind.reads:
        case "image":
            inputs = {"pixel_values": (zeros(model, 2, c.channels, *c.image_size), {0: B})}
        case "sound":
            inputs = {"input_features": (zeros(model, 2, c.bands, 2 * c.n_frames), {0: B})}
        case _:
            kinds = ["token_type_ids"] if getattr(c, "n_kinds", 1) > 1 else []
            inputs = {name: (ids(2, 5), {0: B, 1: T}) for name in ("input_ids", "attention_mask", *kinds)}
    names, answer = answers(model, "memory" if hasattr(model, "decode") else kind.does, kind.reads)
    return Graph(file, EncoderGraph(model, answer), inputs, names)


def answers(model: Any, does: str, reads: str) -> tuple[list[str], Callable[[Tensor, Tensor], tuple[Tensor, ...]]]:
    """The names of what a head gives, and how: from vectors and what was read."""
    head = model.head
    match does:
        case "memory":
            return ["last_hidden_state"], lambda vectors, x: (vectors,)
        case "vectors" | "image vectors" if isinstance(head.dense, nn.Linear):
            return ["last_hidden_state", "pooler_output"], lambda vectors, x: (vectors, head.pooled(vectors))
        case "vectors" | "image vectors":
            return ["last_hidden_state"], lambda vectors, x: (vectors,)
        case "shared vector":
            return [f"{reads}_embeds", "last_hidden_state"], lambda vectors, x: (head(vectors, x), vectors)
        case "spans":
            return ["start_logits", "end_logits"], lambda vectors, x: head(vectors).unbind(-1)
        case _:
            return ["logits"], lambda vectors, x: (head(vectors),)


class DecoderGraph(Traced):
    """ids [B, T], mask [B, P + T], places [B, T] where the model has any, past -> scores or vectors, and all keys and
    values."""

    def __init__(self, model: Any, placed: bool):
        super().__init__()
        self.model, self.placed = model, placed

    def of(self, words: Tensor, mask: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        past = Past(pairs(rest[self.placed :]), [])
        torch._check(mask.shape[1] == past.length + words.shape[1])
        return said(self.model, words, past, mask=real(mask), positions=rest[0] if self.placed else None)


def decoder(model: Any, loaded: Loaded) -> Graph:
    recipe = model.decoder.recipe
    placed = isinstance(recipe.position, Rotary) or model.embed.positions is not None
    inputs: dict[str, tuple[Tensor, Axes]] = {
        "input_ids": (ids(2, 3), {0: B, 1: T}),
        "attention_mask": (ids(2, 4 + 3), {0: B, 1: ALL}),
        **({"position_ids": (ids(2, 3), {0: B, 1: T})} if placed else {}),
    }
    held = [f"{i}.{each}" for i in range(recipe.n_layers) for each in ("key", "value")]
    shape = (2, recipe.kv_heads, 4, recipe.head_width)
    for name in held:  # an example of its own each: one tensor in two places would be one input
        inputs[f"past_key_values.{name}"] = zeros(model, *shape), {0: B, 2: P}
    first = "logits" if loaded.family.does == "next word" else "last_hidden_state"
    outputs = [first, *(f"present.{name}" for name in held)]
    return Graph("model.onnx", DecoderGraph(model, placed), inputs, outputs)


class FirstGraph(Traced):
    """ids [B, T], memory [B, S, D], its mask [B, S] where it may be padded -> scores, then of each layer its own keys
    and values and those of the memory."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def of(self, words: Tensor, memory: Tensor, *mask: Tensor) -> tuple[Tensor, ...]:
        torch._check(words.shape[0] == memory.shape[0])
        return said(self.model, words, Past([], []), memory=memory, memory_mask=real(mask[0]) if mask else None)


class NextGraph(Traced):
    """ids [B, T], mask of the memory [B, S] where it may be padded, past and memory of each layer -> scores, then of
    each layer its own keys and values."""

    def __init__(self, model: Any, masked: bool):
        super().__init__()
        self.model, self.masked = model, masked

    def of(self, words: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        held = pairs(rest[self.masked :])
        for key, _ in held:
            torch._check(words.shape[0] == key.shape[0])
        mask, memory = real(rest[0]) if self.masked else None, held[1][0]  # all that is made of a memory is held
        return said(self.model, words, Past(held[::2], held[1::2]), memory=memory, memory_mask=mask)


def encoder_decoder(model: Any, loaded: Loaded) -> list[Graph]:
    recipe, padded = model.decoder.recipe, loaded.family.reads != "sound"
    n = 5 if padded else loaded.config.n_frames  # places of an example's memory
    words = {"input_ids": (ids(2, 3), {0: B, 1: T})}
    memory = {"encoder_hidden_states": (zeros(model, 2, n, recipe.d_model), along(1, padded))}
    mask = {"encoder_attention_mask": (ids(2, n), along(1, padded))} if padded else {}
    names = [f"{i}.{of}.{each}" for i in range(recipe.n_layers) for of in OF for each in ("key", "value")]
    past: dict[str, tuple[Tensor, Axes]] = {}
    for name in names:
        own = OF[0] in name
        example = zeros(model, 2, recipe.kv_heads, 4 if own else n, recipe.head_width)
        past[f"past_key_values.{name}"] = example, {0: B, 2: P} if own else along(2, padded)
    first, later = ["logits", *(f"present.{x}" for x in names)], [f"present.{x}" for x in names if OF[0] in x]
    return [
        encoder(model, loaded, "encoder_model.onnx"),
        Graph("decoder_model.onnx", FirstGraph(model), {**words, **memory, **mask}, first),
        Graph(
            "decoder_with_past_model.onnx", NextGraph(model, padded), {**words, **mask, **past}, ["logits", *later]
        ),
    ]  # fmt: skip


def along(axis: int, padded: bool) -> Axes:
    """The axes of a memory that vary: how many there are, and how long they are where that is not fixed."""
    return {0: B, axis: S} if padded else {0: B}


def pairs(held: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Keys and values, which take turns, side by side."""
    return list(zip(held[::2], held[1::2], strict=True))


def said(model: Any, words: Tensor, past: Past, **run: Any) -> tuple[Tensor, ...]:
    """What the head says of the words, then of each layer its keys and values, and those of its memory if it had to
    make them."""
    made = not past.memory
    out = model.head(model.decode(words, Run(cache=cast(Any, past), **run)))
    memory = past.memory if made else {}
    return out, *(x for i, own in past.own.items() for x in (*own, *memory.get(i, ())))
