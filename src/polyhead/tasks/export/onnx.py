"""A loaded model becomes graphs of ONNX, with inputs and outputs by the names that its runtimes know.

An encoder, or a decoder with its past, is one graph, model.onnx. An encoder-decoder is three: encoder_model.onnx,
decoder_model.onnx for the first step, which makes the keys and values of the memory, and decoder_with_past_model.onnx
for every other. Batches and lengths may be any.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polyhead.core import Run
from polyhead.core.rotary import Rotary
from polyhead.errors import ArgumentError, extra
from polyhead.tasks.export.onnx_file import write_graphs
from polyhead.tasks.export.tracing import Past, Plain, traceable
from polyhead.tasks.load import Loaded

Axes = dict[int, str]
B, T, P, S = "batch_size", "sequence_length", "past_sequence_length", "encoder_sequence_length"
ALL = "total_sequence_length"  # of the past and of what is read now
OPSET = 18
#  what torch says while it traces, and is meant or its own
QUIET = (
    r"# The axis name: .* will not be used",  # two inputs share an axis
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # between parts of torch
)


@dataclass(frozen=True)
class Graph:
    """What is traced into one file: a module, examples of its inputs with those of their axes that vary, and what it
    gives."""

    file: str
    module: nn.Module
    inputs: Mapping[str, tuple[Tensor, Axes]]
    outputs: Sequence[str]


def graphs(loaded: Loaded) -> list[Graph]:
    """The graphs of a model. Raises ArgumentError for one that cannot be traced."""
    model = traceable(loaded.model)
    if hasattr(model, "encode") and hasattr(model, "decode"):
        return encoder_decoder(model, loaded)
    return [decoder(model, loaded) if hasattr(model, "decode") else encoder(model, loaded)]


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
        with warnings.catch_warnings():
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


def real(mask: Tensor) -> Tensor:
    """[B, S] of ones and zeros -> what may be looked at, [B, 1, 1, S]."""
    return (mask != 0)[:, None, None]


# ----------------------------------------------------------------------------------------------------------- the graphs


class EncoderGraph(nn.Module):
    def __init__(self, model: Any, does: str, reads: str):
        super().__init__()
        self.model, self.does, self.reads = model, does, reads

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        x, *rest = given
        mask = real(rest[0]) if rest else None
        more = {"kinds": rest[1]} if len(rest) > 1 else {}
        vectors = self.model.encode(x, Run(mask=mask, observer=Plain()), **more)
        if self.does == "memory":
            return (vectors,)
        if self.does.endswith("vectors"):
            head = self.model.head
            return (vectors, head.pooled(vectors)) if isinstance(head.dense, nn.Linear) else (vectors,)
        scores = self.model.head(vectors)
        return (scores[..., 0], scores[..., 1]) if self.does == "spans" else (scores,)


def encoder(model: Any, loaded: Loaded, file: str = "model.onnx") -> Graph:
    kind, c = loaded.family, loaded.config
    does = "memory" if hasattr(model, "decode") else kind.does
    match kind.reads:
        case "image":
            inputs = {"pixel_values": (torch.zeros(2, c.channels, *c.image_size), {0: B})}
        case "sound":
            inputs = {"input_features": (torch.zeros(2, c.bands, 2 * c.n_frames), {0: B})}
        case _:
            inputs = {
                name: (torch.ones(2, 5, dtype=torch.long), {0: B, 1: T}) for name in ("input_ids", "attention_mask")
            }
            if getattr(c, "n_kinds", 1) > 1:
                inputs["token_type_ids"] = (torch.zeros(2, 5, dtype=torch.long), {0: B, 1: T})
    outputs = ["logits"]
    if does == "memory":
        outputs = ["last_hidden_state"]
    elif does.endswith("vectors"):
        outputs = ["last_hidden_state", *(["pooler_output"] if isinstance(model.head.dense, nn.Linear) else [])]
    elif does == "spans":
        outputs = ["start_logits", "end_logits"]
    return Graph(file, EncoderGraph(model, does, kind.reads), inputs, outputs)


class DecoderGraph(nn.Module):
    """ids [B, T], mask [B, P + T], places [B, T] where the model has any, past -> scores or vectors, and all keys and
    values."""

    def __init__(self, model: Any, placed: bool):
        super().__init__()
        self.model, self.placed = model, placed

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        ids, mask = given[:2]
        held = given[2 + self.placed :]
        past = Past(list(zip(held[::2], held[1::2], strict=True)), [])
        torch._check(mask.shape[1] == past.length + ids.shape[1])
        run = Run(mask=real(mask), positions=given[2] if self.placed else None, cache=past, observer=Plain())  # pyright: ignore
        out = self.model.head(self.model.decode(ids, run))
        return out, *(x for pair in past.own.values() for x in pair)


def decoder(model: Any, loaded: Loaded) -> Graph:
    recipe = model.decoder.recipe
    placed = isinstance(recipe.position, Rotary) or model.embed.positions is not None
    inputs: dict[str, tuple[Tensor, Axes]] = {
        "input_ids": (torch.ones(2, 3, dtype=torch.long), {0: B, 1: T}),
        "attention_mask": (torch.ones(2, 3 + 4, dtype=torch.long), {0: B, 1: ALL}),
    }
    if placed:
        inputs["position_ids"] = (torch.ones(2, 3, dtype=torch.long), {0: B, 1: T})
    for i in range(recipe.n_layers):
        for each in ("key", "value"):
            past = torch.zeros(2, recipe.kv_heads, 4, recipe.head_width)
            inputs[f"past_key_values.{i}.{each}"] = past, {0: B, 2: P}
    first = "logits" if loaded.family.does == "next word" else "last_hidden_state"
    present = [f"present.{i}.{each}" for i in range(recipe.n_layers) for each in ("key", "value")]
    return Graph("model.onnx", DecoderGraph(model, placed), inputs, [first, *present])


class FirstGraph(nn.Module):
    """ids [B, T], memory [B, S, D], its mask [B, S] where it may be padded -> scores, then of each layer its own keys
    and values and those of the memory."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        ids, memory, *mask = given
        torch._check(ids.shape[0] == memory.shape[0])
        past, rule = Past([], []), real(mask[0]) if mask else None
        run = Run(memory=memory, memory_mask=rule, cache=past, observer=Plain())  # pyright: ignore
        out = self.model.head(self.model.decode(ids, run))
        return out, *(x for i in past.own for x in (*past.own[i], *past.memory[i]))


class NextGraph(nn.Module):
    """ids [B, T], mask of the memory [B, S] where it may be padded, past and memory of each layer -> scores, then of
    each layer its own keys and values."""

    def __init__(self, model: Any, masked: bool):
        super().__init__()
        self.model, self.masked = model, masked

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        ids, held = given[0], given[1 + self.masked :]
        pairs = list(zip(held[::2], held[1::2], strict=True))
        torch._check(ids.shape[0] == held[0].shape[0])
        torch._check(ids.shape[0] == held[2].shape[0])
        past, rule = Past(pairs[::2], pairs[1::2]), real(given[1]) if self.masked else None
        run = Run(memory=held[0], memory_mask=rule, cache=past, observer=Plain())  # pyright: ignore
        out = self.model.head(self.model.decode(ids, run))
        return out, *(x for pair in past.own.values() for x in pair)


def encoder_decoder(model: Any, loaded: Loaded) -> list[Graph]:
    recipe, masked = model.decoder.recipe, loaded.family.reads != "sound"
    frames = {} if masked else {1: loaded.config.n_frames}
    n = loaded.config.n_frames if frames else 5
    source: Axes = {0: B} if frames else {0: B, 1: S}
    ids = {"input_ids": (torch.ones(2, 3, dtype=torch.long), {0: B, 1: T})}
    mask = {"encoder_attention_mask": (torch.ones(2, n, dtype=torch.long), source)} if masked else {}
    memory = {"encoder_hidden_states": (torch.zeros(2, n, recipe.d_model), source)}
    layers, each = range(recipe.n_layers), ("key", "value")
    present = [f"present.{i}.{of}.{kind}" for i in layers for of in ("decoder", "encoder") for kind in each]
    past: dict[str, tuple[Tensor, Axes]] = {}
    for name in present:
        own = ".decoder." in name
        shape = (2, recipe.kv_heads, 4 if own else n, recipe.head_width)
        axes: Axes = {0: B, 2: P} if own else {0: B} if frames else {0: B, 2: S}
        past[name.replace("present", "past_key_values")] = torch.zeros(shape), axes
    return [
        encoder(model, loaded, "encoder_model.onnx"),
        Graph("decoder_model.onnx", FirstGraph(model), {**ids, **memory, **mask}, ["logits", *present]),
        Graph(
            "decoder_with_past_model.onnx", NextGraph(model, masked), {**ids, **mask, **past},
            ["logits", *(name for name in present if ".decoder." in name)],
        ),
    ]  # fmt: skip
