"""How exact the numbers of a call are, which recordings say in English, said in Chinese."""

from __future__ import annotations

import re

CHINESE = tuple(
    (re.compile(english), chinese)
    for english, chinese in (
        (r"weights exact to the rounding of (\w+) products", "权重精确到 {0} 乘积的舍入误差"),
        (r"replayed, output off by ([\w.+-]+); (.+)", "重新运行过，输出相差 {0}；{1}"),
        (
            r"statistics of the run itself; weights after a replay, which says how far its output was off",
            "统计量来自当次运行；权重要重新运行后才有，届时会说明输出相差多少",
        ),
        (r"statistics exact to the rounding of (\w+); no other weights", "统计量精确到 {0} 的舍入误差；没有其他权重"),
    )
)


def in_chinese(exactness: str) -> str:
    """The sentence of `Call.exactness` in Chinese; one that is not known, of another version's file, as it stands."""
    for english, chinese in CHINESE:
        if found := english.fullmatch(exactness):
            return chinese.format(*map(in_chinese, found.groups()))
    return exactness
