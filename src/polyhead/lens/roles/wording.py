"""What the table of heads and its notes say, in English and in Chinese."""

from __future__ import annotations

from polyhead.lens.language import LANGUAGES, Language

Both = tuple[str, str]

SAID: dict[str, Both] = {
    "cross": ("cross", "交叉"),
    "decoder": ("dec", "解码"),
    "encoder": ("enc", "编码"),
    # the table
    "head": ("head", "头"),
    "role": ("role", "作用"),
    "chance row": ("chance", "随机"),
    "about": ("{name}: ", "{name}（{zh}）："),
    "measured too": ("measured too: {keys}", "还测了：{keys}"),
    # what a head is called
    "positional": ("positional", "位置头"),
    "at an offset": ("offset {offset}", "偏移 {offset}"),
    "induction": ("induction", "归纳头"),
    "syntax": ("syntax", "句法"),
    "previous": ("previous token", "看前一个"),
    "next": ("next token", "看后一个"),
    "itself": ("itself", "看自己"),
    "duplicate": ("duplicate token", "看相同的词"),
    "alignment": ("alignment", "对齐"),
    "row": ("row", "看同一行"),
    "column": ("column", "看同一列"),
    "special": ("special", "看特殊符"),
    "sink": ("sink", "汇聚点"),
    "delimiter": ("delimiter", "看标点"),
    "evenness": ("broad", "分散"),
    # a treebank
    "treebank": (
        "{n:,} sentences of a treebank; each head was chosen on every other one, measured on the rest",
        "树库的 {n:,} 个句子；每个头都在相隔的一半句子上选出，在另一半上测量",
    ),
    "left out": ("{n} too long for the model", "{n} 句超过模型长度，略去"),
    "relation": ("relation", "关系"),
    "looks": ("looks", "看的方向"),
    "found": ("found %", "找到 %"),
    "best offset": ("best offset %", "最佳偏移 %"),
    "to dependent": ("head {arrow} dependent", "支配词 {arrow} 从属词"),
    "to head": ("dependent {arrow} head", "从属词 {arrow} 支配词"),
    "syntactic": ("syntactic", "句法头"),
    # notes
    "ours, en": ("inputs: {n} English sentences that polyhead brings", "输入：polyhead 自带的 {n} 个英文句子"),
    "ours, zh": ("inputs: {n} Chinese sentences that polyhead brings", "输入：polyhead 自带的 {n} 个中文句子"),
    "repeated": (
        "duplicate, induction, prefix, copying: {n} inputs of {size} random tokens, {copies} times each",
        "duplicate、induction、prefix、copying：{n} 个输入，各是 {size} 个随机词元重复 {copies} 次",
    ),
    "not repeated": (
        "duplicate, induction, prefix, copying: none, the model reads too few tokens to repeat some",
        "duplicate、induction、prefix、copying：无，模型读得太短，放不下重复的词元",
    ),
    "worth": ("importance: {loss}", "importance：{loss}"),
    "worth, mean": ("importance, ablation (by mean): {loss}", "importance、ablation（换成均值）：{loss}"),
    "worth, zero": ("importance, ablation (by zero): {loss}", "importance、ablation（换成零）：{loss}"),
    "of a vector": (
        "of the vector, how far it moves (importance: about, in random directions); the model has no loss",
        "看向量移动多远（importance 由随机方向估计）；这个模型没有损失",
    ),
    "of a label": ("of the label that the model itself chooses", "以模型自己选的标签为准的损失"),
    "of labels": ("of the labels that the model itself chooses", "以模型自己选的各处标签为准的损失"),
    "of hidden words": ("of guessing words that were hidden", "猜被遮住的词的损失"),
    "of the next word": ("of the next word", "预测下一个词的损失"),
    "of the target": ("of the target's words", "目标文本各词的损失"),
    "prefix after": (
        "prefix: the token after the earlier one (offset +1)",
        "prefix：先前相同词元之后的那个（偏移 +1）",
    ),
    "prefix before": (
        "prefix: the token before the earlier one (offset -1)",
        "prefix：先前相同词元之前的那个（偏移 -1）",
    ),
    "no copying": ("copying: none, the model reads no words out ({does})", "copying：无，这个模型不读出词（{does}）"),
    "one input": ("one input: no intervals, and roles rest on it alone", "只有一个输入：没有区间，作用只凭它判断"),
    "one recording": (
        "1 recording; chance is on the same inputs and masks",
        "1 份记录；随机水平取自同样的输入和掩码",
    ),
    "recordings": (
        "{n} recordings; chance is on the same inputs and masks",
        "{n} 份记录；随机水平取自同样的输入和掩码",
    ),
    "missed": ("missed {n}: {what}", "漏掉 {n} 个：{what}"),
}  # fmt: skip


def both(key: str, **words: object) -> Both:
    """A sentence in both languages; a word that is a pair has one for each."""

    def of(n: int) -> str:
        return SAID[key][n].format(**{name: x[n] if isinstance(x, tuple) else x for name, x in words.items()})

    return of(0), of(1)


def said(key: str, language: Language, **words: object) -> str:
    return SAID[key][LANGUAGES.index(language)].format(**words)
