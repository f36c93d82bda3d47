"""What there is to draw on: a terminal's colours, characters and width; and one weight drawn with them.

Colour is used where the terminal has 256 colours or more and NO_COLOR is not set; shades of block characters elsewhere,
and ASCII where the encoding has no blocks. A cell is one place of the terminal; a Chinese character takes two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from polyhead.lens.draw.colour import colour, in_cube, ink_on
from polyhead.lens.draw.labels import fit, pad, printable

LONGEST_LABEL = 20  # cells; what is longer is cut with an ellipsis


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """colours: 0, 256 or 16,777,216, fewer than 256 count as none. width: cells in a line."""

    colours: int = 0
    encoding: str = "utf-8"
    width: int = 80

    @classmethod
    def of(cls, console: Console) -> Canvas:
        many = {} if console.no_color else {"truecolor": 16_777_216, "256": 256}
        return cls(colours=many.get(console.color_system or "", 0), encoding=console.encoding, width=console.width)

    @property
    def blocks(self) -> bool:
        return self.encoding.lower().startswith("utf")

    @property
    def shades(self) -> str:
        return "·░▒▓█" if self.blocks else ".:+#@"

    @property
    def arrow(self) -> str:
        return "→" if self.blocks else "->"

    @property
    def ellipsis(self) -> str:
        return "…" if self.blocks else "~"

    def labels(self, tokens: Sequence[str]) -> list[str]:
        """The tokens, safe to print, each cut to a third of the width."""
        longest = min(LONGEST_LABEL, max(self.width // 3, 4))
        return [fit(printable(token, self.encoding), longest, self.ellipsis) for token in tokens]

    def cell(self, share: float, width: int, text: str = "") -> Text:
        """One weight, as a share of the scale, `width` cells wide; `text` is written on it. NaN is shown as ?."""
        if isnan(share):
            return Text("?" * width)
        if not self.colours:
            return Text(pad(text, width, "center") if text else self.shades[min(int(share * 5), 4)] * width)
        ground, ink = self.paint(share)
        return Text(pad(text, width, "center"), Style(color=ink, bgcolor=ground))

    def halves(self, upper: float, lower: float | None) -> Text:
        """Two weights, one above the other, in one cell."""
        ground = None if lower is None else self.paint(lower)[0]
        return Text("▀", Style(color=self.paint(upper)[0], bgcolor=ground))

    def paint(self, share: float) -> tuple[Color, Color]:
        """The colour of a share, and the colour to write on it with."""
        if self.colours == 256:
            number, rgb = in_cube(share)
            return Color.from_ansi(number), Color.from_rgb(*ink_on(rgb))
        rgb = colour(share)
        return Color.from_rgb(*rgb), Color.from_rgb(*ink_on(rgb))

    def legend(self, top: float) -> Text:
        """The scale, from nothing to the largest weight shown."""
        line = Text("0% ")
        if self.colours:
            for step in range(20):
                line.append_text(self.cell(step / 19, 1))
        else:
            line.append(self.shades)
        return line.append(f" {100 * top:.0f}%")
