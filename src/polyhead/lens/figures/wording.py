"""What figures say, in English and in Chinese."""

from __future__ import annotations

from polyhead.lens.language import LANGUAGES, Language

SAID: dict[str, tuple[str, str]] = {
    "encoder": ("encoder", "编码器"),
    "decoder": ("decoder", "解码器"),
    "cross": ("cross-attention", "交叉注意力"),
    "layer": ("Layer {}", "第 {} 层"),
    "head": ("head {}", "第 {} 头"),
    "every head": ("every head", "全部注意力头"),
    "every layer": ("Every head of every layer", "全部层的全部注意力头"),
    "mean": ("mean of {} heads", "{} 个头的平均"),
    "looks": ("who looks: {}", "谁在看：{}"),
    "looked": ("looked at: {}", "看向：{}"),
    "of": ("{}: {}", "{}：{}"),
    "rows": ("rows, from above: {}", "行，从上到下：{}"),
    "columns": ("columns, from left: {}", "列，从左到右：{}"),
    "axes": ("Row = who looks, column = what is looked at.", "行是看的一方，列是被看的一方。"),
    "weight": ("Weights of softmax.", "数值为 softmax 权重。"),
    "norm": ("Weight × norm of the value{}, each row brought to sum to 1.", "权重 × 值向量范数{}，每行归一到和为 1。"),
    "after": (" after the output projection", "（输出投影之后）"),
    "joined": (
        "Pieces of one word are joined: what is looked at adds up, those who look are averaged.",
        "同一个词的片段合在一起：被看的相加，看的取平均。",
    ),
    "sampled": (
        "{T:,} × {S:,} places: each cell stands for {side} × {side}, and shows the largest weight of one exact row.",
        "共 {T:,} × {S:,} 个位置：每格代表其中 {side} × {side} 个，显示其中一个精确行的最大权重。",
    ),
    "thumbs": (
        "Small maps of long texts show, in each cell, the largest weight of one exact row.",
        "长文本的小图中，每格显示一个精确行的最大权重。",
    ),
    "links": (
        "From each word that looks, lines to the words it looks at; thickness = weight.",
        "每个看的词连向它所看的词；线的粗细是权重。",
    ),
    "largest": ("At the left, each word's largest.", "左侧的百分数是每个词最大的权重。"),
    "weak": (
        "Lines under {:.0f} % are left out unless they are a word's strongest.",
        "低于 {:.0f} % 的线略去，每个词最强的一条总是保留。",
    ),
    "picture": (
        "Light where it looks: each head's veil is lifted by weight, wholly at its largest; {}.",
        "亮处是被看的地方：权重越大，遮罩越淡，每个头最大处全部揭开；{}。",
    ),
    "framed": ("the framed patch is the one that looks", "加框的图块是看的一方"),
    "sign": ("{} is what looks", "看的一方是 {}"),
    "beside": ("{:.0f} % on {}", "{:.0f} % 落在 {}"),
    "light": ("brightest: {:.1f} %", "最亮处：{:.1f} %"),
    "sound": (
        "Above, the sound: low bands below. Under it, for each word the time that it looks at; "
        "a cell adds up the weights of {:.2f} s.",
        "上方是声音，低频在下。下方是每个词所看的时间；每格是 {:.2f} 秒内权重之和。",
    ),
    "unheard": ("{:.0f} % of the weight lies after the end of the sound.", "{:.0f} % 的权重落在声音结束之后。"),
    "seconds": ("seconds", "秒"),
    "roles": ("Bars are means over {} inputs.", "条形是 {} 个输入的平均。"),
    "role": ("Bars are of one input.", "条形是一个输入的数值。"),
    "interval": ("Thin lines: the interval of 95 %.", "细线是 95 % 区间。"),
    "chance": ("Orange marks: what a head of chance gets.", "橙色标记是随机头的水平。"),
    "lacking": (
        "No installed font has {}: boxes with their numbers stand for what is lacking. An SVG keeps it as text.",
        "已安装的字体都没有 {}：缺少的字符画成写有编号的方框。SVG 中仍是文本。",
    ),
    "lacking Chinese": (
        "No installed font has {}: boxes with their numbers stand for what is lacking. Install a font of Chinese, such"
        " as Noto Sans CJK (on Debian: apt install fonts-noto-cjk). An SVG keeps it as text.",
        "",  # nobody could read it
    ),
    "and more": ("{} and {} more", "{} 等，另有 {} 个"),
    "recording": ("recording", "记录"),
}  # fmt: skip


def said(key: str, language: Language, *values: object, **named: object) -> str:
    return SAID[key][LANGUAGES.index(language)].format(*values, **named)
