"""A weight between 0 and 1 becomes a colour: dark blue to yellow, to be read by the colour-blind and in grey print."""

from __future__ import annotations

# Lightness rises evenly from anchor to anchor, and hue moves along blue-yellow only, the axis that red-green colour
# blindness leaves whole.
ANCHORS = ((10, 28, 74), (44, 70, 120), (98, 106, 122), (150, 143, 112), (204, 183, 84), (255, 228, 60))

# The same ramp in the colour cube of terminals with 256 colours, whose nearest colours would not rise in lightness.
CUBE = (17, 18, 19, 60, 102, 144, 185, 227)

RGB = tuple[int, int, int]


def colour(weight: float) -> RGB:
    """The ramp at `weight`; what lies outside 0..1 takes the nearer end."""
    place = min(max(weight, 0.0), 1.0) * (len(ANCHORS) - 1)
    step = min(int(place), len(ANCHORS) - 2)
    low, high = ANCHORS[step], ANCHORS[step + 1]
    red, green, blue = (round(a + (b - a) * (place - step)) for a, b in zip(low, high, strict=True))
    return red, green, blue


def in_cube(weight: float) -> tuple[int, RGB]:
    """The ramp at `weight` for 256 colours: the colour's number and what it looks like."""
    number = CUBE[min(int(min(max(weight, 0.0), 1.0) * len(CUBE)), len(CUBE) - 1)]
    levels = (0, 95, 135, 175, 215, 255)
    red, green, blue = (levels[(number - 16) // place % 6] for place in (36, 6, 1))
    return number, (red, green, blue)


def luminance(rgb: RGB) -> float:
    """Relative luminance, 0 for black and 1 for white (WCAG 2.2)."""
    red, green, blue = (c / 12.92 if (c := v / 255) <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for v in rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def ink_on(rgb: RGB) -> RGB:
    """Black or white, whichever stands out more on `rgb`."""
    return (0, 0, 0) if luminance(rgb) > 0.179 else (255, 255, 255)
