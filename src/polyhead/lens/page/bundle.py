"""The static modules become one page, without a build: one style, one script, a policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

STATIC = Path(__file__).parent / "static"
LEARN = Path(__file__).parents[1] / "learn" / "static"
IMPORT = re.compile(r"^import \{[^}]*\} from '(\.{1,2}/[\w./-]+\.js)';\n", re.MULTILINE)
COMMENT = re.compile(r"^ *// .*\n", re.MULTILINE)
INDENT = re.compile(r"^\s+", re.MULTILINE)  # of which nothing is made, nor of empty lines: our texts have one line
AIR = re.compile(r"/\*.*?\*/|(?<=[{};:,>])\s+|\s+(?=[{>])|;?\s*(?=\})", re.DOTALL)  # in a style, as below in a script
SIGNS = re.compile(r" (=>|===|!==|&&|\|\||\?\?|[<>+*/-]=|[<>?]) ")  # which no text of ours has
EXPORT = re.compile(r"^export (?=(?:async )?function|const|let|class)", re.MULTILINE)
CLOSED = (
    "default-src 'none'; script-src {}; style-src {}; img-src data: blob:; media-src blob:; base-uri 'none';"
    " form-action 'none'"
)

META = '<meta http-equiv="Content-Security-Policy" content="{}">\n'


@dataclass(frozen=True)
class Code:
    """A script and the style of what it makes."""

    script: str
    style: str


@dataclass(frozen=True)
class Page:
    """What a browser is given.

    html    the whole page.
    policy  its content security policy, to be sent as a header; a page that holds its answers says it by itself too.
    """

    html: str
    policy: str


def page(answers: Mapping[str, bytes] | None = None, *, port: bool = False) -> Page:
    """The page that asks its server, or, with `answers` by their paths, a page that needs none and asks nobody, or one
    that asks through a `port`, which the window round it hands in."""
    own = Code(joined(STATIC / "main.js"), styled("theme.css", "style.css"))
    policy = policy_of(own, stations())
    if port:
        return Page(filled(own, f'{META.format(policy)}<meta name="answers" content="port">\n'), policy)
    if answers is None:
        policy += "; connect-src 'self'"
        return Page(filled(own), policy)
    return Page(filled(own, META.format(policy), answers), policy)


@cache
def stations() -> Code:
    """The nine stations of a lesson, which the page asks for when somebody follows a cell: they stand in a shadow of
    their own, to which the theme reaches. Kept, since a page that was sent lets these very texts run."""
    script = joined(LEARN / "inside.js")
    return Code(f"(() => {{\n'use strict';\n{script}}})();\n", styled(LEARN / "stations.css"))


def lesson_page(lesson: bytes) -> Page:
    """A lesson as a page of its own, which asks nobody. lesson: JSON."""
    own = Code(joined(LEARN / "main.js"), styled("theme.css", LEARN / "stations.css", LEARN / "lesson.css"))
    policy = policy_of(own)
    return Page(filled(own, META.format(policy), {"lesson.json": lesson}), policy)


def styled(*names: str | Path) -> str:
    return AIR.sub("", "\n".join((STATIC / name).read_text(encoding="utf-8") for name in names))


def policy_of(*every: Code) -> str:
    """What lets these scripts and styles run, by their hashes, and nothing else."""
    hashes = [" ".join(f"'{digest(text)}'" for text in texts) for texts in zip(*map(astuple, every), strict=True)]
    return CLOSED.format(*hashes)


def filled(code: Code, said: str = "", answers: Mapping[str, bytes] | None = None) -> str:
    """The whole page: `said` stands in its head, `answers` in its body."""
    data = "" if answers is None else embedded(answers)
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    for mark, text in {
        "<!-- policy -->\n": said,
        "<!-- style -->": f"<style>{code.style}</style>",
        "<!-- answers -->\n": data and f'<script type="application/json" id="answers">{data}</script>\n',
        "<!-- script -->": f'<script type="module">{code.script}</script>',
    }.items():
        before, after = html.split(mark)  # or raise: each stands there once
        html = before + text + after
    return html


def joined(first: Path) -> str:
    """A module after all that it imports, as one script; their names are of one world, so none may be given twice.
    Comments stay behind."""
    return SIGNS.sub(r"\1", INDENT.sub("", "\n".join(modules(first).values())))


def modules(first: Path) -> dict[Path, str]:
    """A module after all that it imports, by their files."""
    parts: dict[Path, str] = {}

    def visit(file: Path) -> None:
        if file in parts:
            return
        text = file.read_text(encoding="utf-8")
        parts[file] = ""  # a circle of imports ends here
        for needed in IMPORT.findall(text):
            visit((file.parent / needed).resolve())
        del parts[file]  # it stands after what it needs
        parts[file] = EXPORT.sub("", COMMENT.sub("", IMPORT.sub("", text)))

    visit(first.resolve())
    return parts


def embedded(answers: Mapping[str, bytes]) -> str:
    """Answers by path as JSON that no token can break out of: each is deflated and in base64."""
    coded = {path: base64.b64encode(zlib.compress(body, 9)).decode("ascii") for path, body in answers.items()}
    return json.dumps(coded, separators=(",", ":")).replace("<", "\\u003c")


def digest(text: str) -> str:
    """The name by which a policy lets this inline text run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
