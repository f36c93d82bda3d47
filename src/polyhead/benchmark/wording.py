"""What is said of a comparison, in English and in Chinese."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from polyhead.benchmark.result import Comparison, Measured

Language = Literal["en", "zh"]
SAID: dict[str, tuple[str, str]] = {
    "translate": ("{name}: {n} texts to translate", "{name}：翻译 {n} 段文字"),
    "complete": ("{name}: {n} texts to go on with, {new} tokens each", "{name}：续写 {n} 段文字，每段 {new} 个词元"),
    "embed": ("{name}: {n} texts to turn into vectors", "{name}：把 {n} 段文字变成向量"),
    "classify": ("{name}: {n} texts to label", "{name}：给 {n} 段文字打标签"),
    "look": ("{name}: {n} images to label", "{name}：给 {n} 张图像打标签"),
    "hear": ("{name}: {n} sounds to write down", "{name}：听写 {n} 段声音"),
    "beam": (", a beam of {}", "，束宽 {}"),
    "greedy": (", greedily", "，贪心"),
    "tokens written": ("tokens/s", "词元/秒"),
    "tokens read": ("tokens/s", "词元/秒"),
    "images": ("images/s", "图像/秒"),
    "seconds of sound": ("s of sound/s", "声音秒/秒"),
    "engine": ("engine", "引擎"),
    "spread": ("spread", "波动"),
    "ratio": ("ratio", "倍数"),
    "same": ("same", "相同"),
    "cosine": ("cosine", "余弦"),
    "parts": ("of its time", "时间分布"),
    "products": ("products", "矩阵乘"),
    "attention": ("attention", "注意力"),
    "rest": ("the rest", "其余"),
    "parts long": (
        "products, attention, the rest: where the time goes in what PyTorch runs: matrix products and convolutions;"
        " scores, softmax and weighted sum; and norms, activations, caches, rounding, the search and Python. The first"
        " two are seen by PyTorch's profiler in one more round.",
        "矩阵乘、注意力、其余：PyTorch 运行的引擎把时间花在哪里：矩阵乘和卷积；分数、softmax 和加权和；归一化、激活、"
        "缓存、舍入、搜索和 Python。前两项由 PyTorch 的性能分析器在另一轮里看到。",
    ),
    "parts rough": (
        "On a machine that is not quiet these shares are rough.",
        "机器不安静时，这些比例只是大概。",
    ),
    "title": ("How many times as fast as {base}", "速度是 {base} 的几倍"),
    "ratios": (
        "ratio: how many times as fast as {base}, the median of the rounds' own ratios. spread: from the slowest to the"
        " fastest of {rounds} rounds, as a share of the median.",
        "倍数：速度是 {base} 的几倍，取各轮倍数的中位数。波动：{rounds} 轮中最慢到最快，占中位数的比例。",
    ),
    "ratio once": (
        "ratio: how many times as fast as {base}, in {rounds} round.",
        "倍数：速度是 {base} 的几倍，只有 {rounds} 轮。",
    ),
    "same long": ("same: answers that are token for token those of {base}.", "相同：与 {base} 逐词元相同的回答。"),
    "cosine long": (
        "cosine: the smallest between an answer and that of {base}.",
        "余弦：与 {base} 的回答之间最小的余弦。",
    ),
    "whiskers": ("Thin lines: from the slowest round to the fastest.", "细线：最慢一轮到最快一轮。"),
    "threads": ("{} threads each", "每个引擎 {} 个线程"),
    "thread": ("1 thread each", "每个引擎 1 个线程"),
    "quiet": ("Others used {:.2f} CPUs meanwhile: a quiet machine.", "期间其他程序占用 {:.2f} 个 CPU：机器安静。"),
    "not quiet": (
        "Others used {:.2f} CPUs meanwhile: not a quiet machine. Read the ratios only, or measure again.",
        "期间其他程序占用 {:.2f} 个 CPU：机器不安静。只看倍数，或者重新测量。",
    ),
    "unknown": ("Whether others used the machine meanwhile is not known.", "期间机器是否安静不得而知。"),
    "quick": ("A smoke run: its figures mean nothing.", "试运行：数字没有意义。"),
    "rules": (
        "CTranslate2 and ONNX Runtime do not do all that the folder asks for ({rules}): their answers may differ.",
        "CTranslate2 和 ONNX Runtime 没有做到模型文件夹要求的全部（{rules}）：回答可能不同。",
    ),
    "missing": ("Not measured: {name} ({how}).", "未测：{name}（{how}）。"),
}  # fmt: skip


def said(key: str, language: Language, *values: object, **named: object) -> str:
    return SAID[key][("en", "zh").index(language)].format(*values, **named)


def heading(of: Comparison, language: Language) -> str:
    """Which model does what."""
    more, name = "", Path(of.model).name or of.model
    if of.work == "translate":
        more = said("greedy", language) if of.beams == 1 else said("beam", language, of.beams)
    return said(of.work, language, name=name, n=of.rows, new=of.new) + more


def notes(found: Measured, language: Language) -> list[str]:
    """What the figures mean, where they were measured, and which engines are missing."""
    base = found.comparisons[0].base.name
    ratio = "ratios" if found.rounds > 1 else "ratio once"
    kinds = dict.fromkeys("same long" if writes(each) else "cosine long" for each in found.comparisons)
    if any(line.parts for each in found.comparisons for line in each.lines):
        kinds["parts long"] = None
        if not found.quiet:
            kinds["parts rough"] = None
    gap = "" if language == "zh" else " "
    meaning = gap.join(
        [said(ratio, language, base=base, rounds=found.rounds), *(said(k, language, base=base) for k in kinds)]
    )
    rules = dict.fromkeys(
        rule for each in found.comparisons for rule in each.rules
        if any(line.speeds and line.engine in ("ctranslate2", "onnxruntime") for line in each.lines)
    )  # fmt: skip
    unlike = [said("rules", language, rules=", ".join(rules))] if rules else []
    return [meaning, *unlike, *(said("missing", language, name=name, how=how) for name, how in found.missing.items()),
            circumstances(found, language)]  # fmt: skip


def circumstances(found: Measured, language: Language) -> str:
    """Date, machine, versions, and whether it was quiet."""
    many = said("threads", language, found.threads) if found.threads > 1 else said("thread", language)
    quiet = {True: "quiet", False: "not quiet", None: "unknown"}[found.quiet]
    told = [f"{found.date}; {found.hardware}; {many}; {', '.join(found.versions)}.", said(quiet, language, found.busy)]
    return " ".join([*told, *([said("quick", language)] if found.quick else [])])


def writes(of: Comparison) -> bool:
    return of.work in ("translate", "complete", "hear")
