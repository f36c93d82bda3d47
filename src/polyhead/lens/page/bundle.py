"""The static modules become one page, without a build: one style, one script, a policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STATIC = Path(__file__).parent / "static"
IMPORT = re.compile(r"^import \{[^}]*\} from '\./(\w+\.js)';\n", re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?function|const|let|class)", re.MULTILINE)
CLOSED = (
    "default-src 'none'; script-src '{}'; style-src '{}'; img-src data: blob:; media-src blob:; base-uri 'none';"
    " form-action 'none'"
)

META = '<meta http-equiv="Content-Security-Policy" content="{}">\n'


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
    style = (STATIC / "style.css").read_text(encoding="utf-8")
    script = joined("main.js")
    policy = CLOSED.format(digest(script), digest(style))
    if port:
        said, data = f'{META.format(policy)}<meta name="answers" content="port">\n', ""
    elif answers is None:
        policy += "; connect-src 'self'"
        said, data = "", ""
    else:
        said = META.format(policy)
        data = f'<script type="application/json" id="answers">{embedded(answers)}</script>\n'
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    for mark, text in {
        "<!-- policy -->\n": said,
        "<!-- style -->": f"<style>{style}</style>",
        "<!-- answers -->\n": data,
        "<!-- script -->": f'<script type="module">{script}</script>',
    }.items():
        before, after = html.split(mark)  # or raise: each stands there once
        html = before + text + after
    return Page(html, policy)


def joined(first: str) -> str:
    """A module after all that it imports, as one script; their names are of one world, so none may be given twice."""
    parts: dict[str, str] = {}

    def visit(name: str) -> None:
        if name in parts:
            return
        text = (STATIC / name).read_text(encoding="utf-8")
        parts[name] = ""  # a circle of imports ends here
        for needed in IMPORT.findall(text):
            visit(needed)
        del parts[name]  # it stands after what it needs
        parts[name] = EXPORT.sub("", IMPORT.sub("", text))

    visit(first)
    return "\n".join(parts.values())


def embedded(answers: Mapping[str, bytes]) -> str:
    """Answers by path as JSON that no token can break out of: each is deflated and in base64."""
    coded = {path: base64.b64encode(zlib.compress(body, 9)).decode("ascii") for path, body in answers.items()}
    return json.dumps(coded, separators=(",", ":")).replace("<", "\\u003c")


def digest(text: str) -> str:
    """The name by which a policy lets this inline text run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
