"""A raw line enters, the same words leave: no control characters, no invisible marks, single spaces."""

from __future__ import annotations

import unicodedata

# What carries no words and can be removed without joining or losing any: zero-width space, word joiner, byte order
# mark, soft hyphen, and the marks that reorder what a terminal shows. Joiners (U+200C, U+200D) spell words and emoji
# in some scripts and stay, and so does every combining mark.
INVISIBLE = "\u00ad\u200b\u2060\ufeff\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class _Removed(dict[int, str | None]):
    """The table of `str.translate`, filled in as characters are met."""

    def __missing__(self, code: int) -> str | None:
        kind = unicodedata.category(chr(code))
        if kind == "Cs":  # half of a UTF-16 pair: what is left of bytes that were never text
            self[code] = "\ufffd"
        else:
            self[code] = None if kind == "Cc" or chr(code) in INVISIBLE else chr(code)
        return self[code]


_removed = _Removed()


def clean(line: str) -> str:
    """One line of text, ready to be shown and tokenised.

    White space of every kind becomes one space, none at the ends; control characters, byte order marks and invisible
    formatting disappear; everything else is untouched. `clean(clean(x)) == clean(x)`, and the result is always one
    line. NFKC and traditional characters are the tokenizer's business.
    """
    if line.isprintable() and "  " not in line:  # true of nearly every line
        return line.strip(" ")
    return " ".join(" ".join(line.split()).translate(_removed).split())
