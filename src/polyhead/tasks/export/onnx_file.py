"""Graphs that torch traced become .onnx files; numbers that several graphs share lie beside them once, in one file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from polyhead.errors import extra

DATA = "model.onnx_data"
SMALL = 1024  # bytes; tensors below stay in their graph
LARGEST = 3 << 29  # bytes of one graph with its numbers inside: a protobuf of 2 GB cannot be read


def write_graphs(folder: Path, graphs: Mapping[str, Any]) -> None:
    """Write graphs (onnx_ir.Model) under the names of their files, with their numbers inside where there is one graph
    of less than 1.5 GB, and else in `DATA`. Raises OSError."""
    ir = extra("onnx_ir", "onnx")
    for model in graphs.values():
        forget_source(model)
    sizes = [value.const_value.nbytes for model in graphs.values() for value in model.graph.initializers.values()]
    if len(graphs) > 1 or sum(sizes) > LARGEST:
        with (folder / DATA).open("wb") as file:
            placed = dict[tuple[Any, ...], int]()
            for model in graphs.values():
                outside(model.graph, file, placed)
    for name, model in graphs.items():
        ir.save(model, folder / name)


def forget_source(model: Any) -> None:
    """Leave out where in whose Python files each node comes from."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def outside(graph: Any, file: BinaryIO, placed: dict[tuple[Any, ...], int]) -> None:
    """Write a graph's numbers to the file, but those that lie there already, and let the graph point at them."""
    ir = extra("onnx_ir", "onnx")
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor.nbytes < SMALL:
            continue
        content = tensor.tobytes()
        place = (len(content), hashlib.sha256(content).digest())
        if place not in placed:
            placed[place] = file.tell()
            file.write(content)
        value.const_value = ir.ExternalTensor(
            DATA, placed[place], len(content), tensor.dtype, shape=tensor.shape, name=name
        )
