"""The machine that something is measured on: its processor, what is installed, and whether others keep it busy."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

QUIET = 0.1  # CPUs that others may keep busy on a machine that is called quiet


def hardware() -> str:
    """Processor, number of CPUs, the instructions that matter here, memory."""
    cpu, memory = _facts("/proc/cpuinfo"), _facts("/proc/meminfo")
    flags = set(cpu.get("flags", "").split())
    told = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags]
    size = f"{int(memory['MemTotal'].split()[0]) / 2**20:.0f} GiB" if "MemTotal" in memory else "memory unknown"
    name = cpu.get("model name") or platform.processor() or platform.machine()
    if {"cpu family", "model"} <= cpu.keys():  # one name is sold for several: an AMD EPYC may be a Zen 4 or a Zen 5
        name += f" (family {cpu['cpu family']}, model {cpu['model']})"
    return f"{name}, {os.cpu_count()} CPUs ({' '.join(told)}), {size}"


def versions(packages: Sequence[str]) -> list[str]:
    """Python, and those of the packages that are installed."""
    found = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            pass
    return found


def cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Neighbours:
    """How many CPUs processes that are not ours keep busy, on average since it was made; Linux only."""

    def __init__(self) -> None:
        self.then = self._now()

    def busy(self) -> float | None:
        if self.then is None or (now := self._now()) is None:
            return None
        seconds, everyone, ours = (b - a for a, b in zip(self.then, now, strict=True))
        return max(0.0, everyone - ours) / seconds

    def _now(self) -> tuple[float, float, float] | None:
        """The clock, the CPU seconds of everyone, and those of this process and all below it."""
        try:
            user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
        except OSError:
            return None
        ticks = {pid: (parent, used) for pid, parent, used in _processes()}
        ours, found = 0, [os.getpid()]
        for pid in found:
            ours += ticks[pid][1]
            found += [child for child, (parent, _) in ticks.items() if parent == pid]
        tick = os.sysconf("SC_CLK_TCK")
        return time.monotonic(), (user + nice + system + irq + softirq + steal) / tick, ours / tick


def _processes() -> list[tuple[int, int, int]]:
    """(id, parent's id, ticks used by it and the children it has waited for) of every process."""
    found: list[tuple[int, int, int]] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        found.append((int(folder.name), int(fields[1]), sum(map(int, fields[11:15]))))
    return found


def _facts(path: str) -> dict[str, str]:
    """The `key : value` lines of a file; of a repeated key the last."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
