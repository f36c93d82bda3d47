"""ARCHITECTURE.md as data: which files the tree names, and which imports the table allows."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "polyhead"
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Row:
    """What one folder may import: folders of the package, packages from outside."""

    inside: frozenset[str]
    outside: frozenset[str]


def table() -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for line in PAGE.split("## Who may import whom")[1].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 4:
            folder, inside, outside, _ = cells
            rows[folder.strip("`")] = Row(frozenset(re.findall(r"`(\w+)`", inside)), frozenset(outside.split()))
    return rows


def tree() -> dict[str, set[str]]:
    """Folder below src/polyhead -> the files named in the picture of the tree; "" is the package itself."""
    found: dict[str, set[str]] = {}
    folder, parents = "", [""]
    for line in PAGE.split("## The tree")[1].split("```")[1].splitlines():
        if line.startswith("src/polyhead/"):
            found[""] = set(line.split(":")[1].split())
        elif begins := re.match(r"( +)(\w+)/ ", line):
            depth = len(begins[1]) // 2
            parents = [*parents[:depth], folder := "/".join(filter(None, (parents[depth - 1], begins[2])))]
            found[folder] = set(line.split(": ")[1].split()) if ": " in line else set()
        elif line.startswith(" " * 8):
            found[folder] |= set(line.split())
    return found


def sources() -> Iterator[Path]:
    yield from sorted(PACKAGE.rglob("*.py"))


def folder_of(file: Path) -> str:
    """`operator` for operator/kernels/fused.py, `errors` for errors.py, "" for the package's own __init__."""
    first, *rest = file.relative_to(PACKAGE).parts
    return first if rest else file.stem.removeprefix("__init__")


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it, as a dotted name; a relative one keeps its dots."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (f"{base}.{alias.name}" if base in ("polyhead", ".") else base for alias in node.names)


def third_party(module: str) -> bool:
    return module.split(".")[0] not in sys.stdlib_module_names and not module.startswith("polyhead")


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))
