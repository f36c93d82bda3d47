"""The roles that heads are measured for: what each number says, how it is made, who asked first, what chance gives.

P[i, j] is the weight of query i on key j. N counts queries that stand for a word, patch or frame, not for a special
token, that see two keys or more, and at least one of those the metric asks about.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from polyhead.errors import ArgumentError, did_you_mean

Chance = Literal["even", "random", "stated", "none"]
Unit = Literal["share", "score", "nats", "keys", "places", "patches", "points", ""]
NEAR = 2  # places to either side that count as local
CONFIDENT = 0.9  # of rows: then a head is called positional (Voita et al. 2019)


@dataclass(frozen=True)
class Metric:
    """One number of a head.

    key: its name in tables and files. en, zh: its name for people. about_en, about_zh: what it says, one sentence.
    formula, source: how it is made, and who did so first. low, high: the range it can take; None is no bound. unit: of
    the number. chance: what is compared with: "even", a head that looks at all it may see alike; "random", one whose
    queries and keys are drawn at random (standard normal, so that scores spread by 1), on the same inputs and masks;
    "stated", a number that follows from the definition; "none", heads are compared with one another.
    """

    key: str
    en: str
    zh: str
    about_en: str
    about_zh: str
    formula: str
    source: str
    low: float | None = 0.0
    high: float | None = 1.0
    unit: Unit = "share"
    chance: Chance = "even"


METRICS: tuple[Metric, ...] = (
    Metric(
        "previous", "previous token", "看前一个词元",
        "How much of its weight a query puts on the token right before it.", "查询把多少权重放在紧邻的前一个词元上。",
        "(1/N) sum_i P[i, i-1]", "Olsson et al. 2022",
    ),
    Metric(
        "next", "next token", "看后一个词元",
        "How much of its weight a query puts on the token right after it.", "查询把多少权重放在紧邻的后一个词元上。",
        "(1/N) sum_i P[i, i+1]", "Olsson et al. 2022, with offset +1",
    ),
    Metric(
        "itself", "itself", "看自己",
        "How much of its weight a query keeps on its own place.", "查询把多少权重留在自己的位置上。",
        "(1/N) sum_i P[i, i]", "Olsson et al. 2022, with offset 0",
    ),
    Metric(
        "positional", "positional head", "位置头",
        f"In which share of rows the largest weight lies at one offset; {CONFIDENT} makes a positional head.",
        f"最大权重落在同一个偏移上的行所占的比例；达到 {CONFIDENT} 就称为位置头。",
        "max_o (1/N) sum_i [argmax_j P[i, j] = i + o]", "Voita et al. 2019", chance="random",
    ),
    Metric(
        "offset", "its offset", "该头的偏移",
        "The offset at which most largest weights lie: -1 is the token before.",
        "最大权重最常出现的偏移：-1 是前一个词元。",
        "argmax_o sum_i [argmax_j P[i, j] = i + o]", "Voita et al. 2019", None, None, "places", "none",
    ),
    Metric(
        "local", "local share", "邻近占比",
        f"The weight on keys at most {NEAR} places away, its own included.",
        f"落在距离不超过 {NEAR} 的键（包括自己）上的权重。",
        f"(1/N) sum_i sum_(|i-j| <= {NEAR}) P[i, j]", "Clark et al. 2019",
    ),
    Metric(
        "distance", "mean distance", "平均距离",
        "How far away the keys are that it looks at, in tokens.", "它所看的键平均离查询多远，以词元计。",
        "(1/N) sum_ij P[i, j] |i - j|", "Vig and Belinkov 2019", 0.0, None, "places",
    ),
    Metric(
        "duplicate", "duplicate token", "看相同的词元",
        "The weight on earlier places that hold the same token.", "落在前面出现过的相同词元上的权重。",
        "(1/N) sum_i sum_(j < i, x_j = x_i) P[i, j]", "Wang et al. 2022",
    ),
    Metric(
        "induction", "induction", "归纳头",
        "On a random block of B tokens, repeated: the weight on the token that followed last time.",
        "在重复的 B 个随机词元上：落在上一次紧随其后的那个词元上的权重。",
        "(1/N) sum_i P[i, i - B + 1], over the later copies", "Elhage et al. 2021; Olsson et al. 2022",
    ),
    Metric(
        "prefix", "prefix matching", "前缀匹配",
        "The weight on tokens that came after the same token, at any earlier place.",
        "落在此前任何一处相同词元之后的词元上的权重。",
        "(1/N) sum_i sum_(j <= i, x_(j-1) = x_i) P[i, j]", "Olsson et al. 2022, as it is usually told (offset +1)",
    ),
    Metric(
        "copying", "copying", "复制",
        "What the head alone writes: how much it raises the token it looks at most, among those of the text.",
        "单看这个头写出的内容：在文中各词元里，它把自己最关注的词元抬高了多少。",
        "2 mean_i (r_i[a_i] / sum_c r_i[c]) - 1, r the logits of the head's output alone above their mean, or 0",
        "Olsson et al. 2022, appendix", -1.0, 1.0, "score", "stated",
    ),
    Metric(
        "confidence", "confidence", "置信度",
        "The largest weight of a query, the end sign left out.", "每个查询的最大权重（不计结束符）。",
        "(1/N) sum_i max_(j not the end) P[i, j]", "Voita et al. 2019", chance="random",
    ),
    Metric(
        "sink", "sink", "汇聚点",
        "The weight on the very first key, whatever stands there.", "落在第一个键上的权重，无论那里是什么。",
        "(1/N) sum_i P[i, 0]", "Xiao et al. 2023; Gu et al. 2024",
    ),
    Metric(
        "special", "special share", "特殊符占比",
        "The weight on special tokens: [CLS], [SEP], start and end signs, registers.",
        "落在特殊词元上的权重：[CLS]、[SEP]、起止符、寄存器。",
        "(1/N) sum_i sum_(j special) P[i, j]", "Clark et al. 2019",
    ),
    Metric(
        "delimiter", "delimiter share", "标点占比",
        "The weight on full stops and commas.", "落在句号和逗号上的权重。",
        "(1/N) sum_i sum_(x_j a full stop or comma) P[i, j]", "Clark et al. 2019",
    ),
    Metric(
        "entropy", "entropy", "熵",
        "How spread its weights are, in nats.", "权重有多分散，以奈特计。",
        "(1/N) sum_i H_i, H_i = - sum_j P[i, j] log P[i, j]", "Clark et al. 2019", 0.0, None, "nats",
    ),
    Metric(
        "evenness", "evenness", "均匀度",
        "Entropy as a share of the most there can be: 1 looks at all alike.", "熵占最大可能值的比例：1 表示一视同仁。",
        "(1/N) sum_i H_i / log(keys that i sees)", "Clark et al. 2019, normalised",
    ),
    Metric(
        "keys", "effective keys", "有效键数",
        "How many keys it looks at, in effect.", "实际上看了多少个键。",
        "(1/N) sum_i exp(H_i)", "after Clark et al. 2019", 1.0, None, "keys",
    ),
    Metric(
        "alignment", "alignment", "对齐",
        "Whether what it looks at moves on as the queries do: 1 in step, -1 backwards.",
        "所看的位置是否随查询一起前进：1 为同步，-1 为反向。",
        "Spearman of E[j given i] with i", "after the word times of Radford et al. 2022", -1.0, 1.0, "score",
        "random",
    ),
    Metric(
        "aer", "alignment error", "对齐错误率",
        "How far its strongest links are from the given word alignments; 0 is none.",
        "最强连接与给定词对齐的差距；0 为没有差距。",
        "1 - (|A and S| + |A and P|) / (|A| + |S|)", "Och and Ney 2003", chance="random",
    ),
    Metric(
        "syntax", "syntax", "句法",
        "How many points better than the best fixed offset it finds one grammatical relation; chosen on half of the"
        " sentences, measured on the others.",
        "寻找某种语法关系比最佳固定偏移好多少（百分点）；在一半句子上选出，在另一半上测量。",
        "max over relations of accuracy - accuracy of the best fixed offset", "Clark et al. 2019; Voita et al. 2019",
        -100.0, 100.0, "points", "stated",
    ),
    Metric(
        "dx", "sideways", "水平偏移",
        "How far to the right of its patch it looks, in patches.", "它看的位置在本图块右方多远，以图块计。",
        "(1/N) sum_i (E[x_j] - x_i)", "own", None, None, "patches",
    ),
    Metric(
        "dy", "downwards", "垂直偏移",
        "How far below its patch it looks, in patches.", "它看的位置在本图块下方多远，以图块计。",
        "(1/N) sum_i (E[y_j] - y_i)", "own", None, None, "patches",
    ),
    Metric(
        "spread", "spread", "散布",
        "How wide the patches it looks at lie around their mean.", "它所看的图块围绕其中心散布多宽。",
        "(1/N) sum_i sqrt(Var[x_j] + Var[y_j])", "own", 0.0, None, "patches",
    ),
    Metric(
        "row", "same row", "同一行",
        "The weight on other patches of its row.", "落在同一行其他图块上的权重。",
        "(1/N) sum_i sum_(y_j = y_i, j != i) P[i, j]", "own",
    ),
    Metric(
        "column", "same column", "同一列",
        "The weight on other patches of its column.", "落在同一列其他图块上的权重。",
        "(1/N) sum_i sum_(x_j = x_i, j != i) P[i, j]", "own",
    ),
    Metric(
        "diagonal", "diagonals", "对角线",
        "The weight on other patches of its two diagonals.", "落在两条对角线上其他图块的权重。",
        "(1/N) sum_i sum_(|x_j - x_i| = |y_j - y_i|, j != i) P[i, j]", "own",
    ),
    Metric(
        "importance", "importance", "重要性",
        "How fast the loss changes when the head is turned down a little, beside the heads of its layer.",
        "把这个头稍微调弱时损失变化得多快，与同层各头相比。",
        "mean_x |sum_i Att_h(x)_i . dL/dAtt_h(x)_i|, divided by the layer's l2 norm", "Michel et al. 2019",
        unit="score", chance="none",
    ),
    Metric(
        "ablation", "ablation", "切除",
        "How much the loss grows when the head's output is replaced by its mean, or by zero.",
        "把这个头的输出换成均值或零时损失增加多少。",
        "mean_x L(head replaced) - L", "Michel et al. 2019", None, None, "", "none",
    ),
)  # fmt: skip
BY_KEY = {metric.key: metric for metric in METRICS}


def chosen(keys: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics of these keys. Raises ArgumentError."""
    found = list(keys)
    for key in found:
        if key not in BY_KEY:
            raise ArgumentError(
                f"There is no metric '{key}'; there are {', '.join(BY_KEY)}.{did_you_mean(key, BY_KEY)}"
            )
    return tuple(BY_KEY[key] for key in found)
