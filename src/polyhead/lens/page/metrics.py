"""What a head does, in a few numbers, from exact rows of its weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Metric:
    """A number of a head: its key, what it is called and what it says, in two languages."""

    key: str
    en: str
    zh: str
    about_en: str
    about_zh: str
    unit: str = ""


METRICS = (
    Metric(
        "effective", "keys looked at", "有效看的个数",
        "exp of the entropy of a row, mean over rows: among how many keys a query shares its weight",
        "每行熵的指数的平均：一个查询把权重分给大约多少个键",
    ),
    Metric(
        "confidence", "largest weight", "最大权重",
        "the largest weight of a row, mean over rows", "每行最大权重的平均",
    ),
    Metric(
        "sinks", "on signs", "落在标记上",
        "weight on special tokens, and of self-attention on the first place; it often gathers there and means little",
        "落在特殊标记上（自注意力还有第一个位置）的权重；权重常聚在那里而含义不大",
    ),
    Metric("own", "on itself", "看自己", "weight on the query's own place", "落在自己位置上的权重"),
    Metric("previous", "on the one before", "看前一个", "weight on the place before", "落在前一个位置上的权重"),
    Metric("next", "on the one after", "看后一个", "weight on the place after", "落在后一个位置上的权重"),
    Metric(
        "distance", "distance", "距离",
        "how far a query looks, in places, mean over weights", "查询看得多远（位置数），按权重平均", "places",
    ),
)  # fmt: skip
KEYS = tuple(metric.key for metric in METRICS)


@dataclass(frozen=True, eq=False)
class Seen:
    """Rows p [t, S] of the queries `rows`; the key that query 0 stands on, None where queries and keys are of two
    texts; and the keys that are sinks."""

    p: Tensor
    rows: Tensor
    offset: int | None
    sinks: tuple[int, ...]


def measured(seen: Seen) -> dict[str, float]:
    """The metrics that there are, by key."""
    p = seen.p
    entropy = -torch.special.xlogy(p, p).sum(1)
    found = {"effective": entropy.exp().mean(), "confidence": p.amax(1).mean()}
    if seen.sinks:
        found["sinks"] = p[:, list(seen.sinks)].sum(1).mean()
    if seen.offset is not None:
        stands = seen.rows + seen.offset  # the key that each query stands on
        for key, step in (("own", 0), ("previous", -1), ("next", 1)):
            place = stands + step
            there = (place >= 0) & (place < p.shape[1])
            if bool(there.any()):
                found[key] = p[there].gather(1, place[there, None]).mean()
        places = torch.arange(p.shape[1], device=p.device)
        found["distance"] = (p * (places - stands[:, None]).abs()).sum(1).mean()
    return {key: float(x) for key, x in found.items()}
