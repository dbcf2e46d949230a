"""The colours of the charts, as they are and as people with two kinds of colour blindness see them, and in grey."""

import re

import pytest

from tests.browser.conftest import ROOT

CSS = (ROOT / "public" / "page.css").read_text()
LEAST = 3.0
"""WCAG 2.2, 1.4.11: contrast of what is not text."""

type Rgb = tuple[float, float, float]
"""Linear light, 0 to 1."""

# Viénot, Brettel and Mollon (1999), in linear RGB.
SIGHTS: dict[str, tuple[Rgb, Rgb, Rgb]] = {
    "full colour": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.11238, 0.88762, 0), (0.11238, 0.88762, 0), (0.00401, -0.00401, 1)),
    "deuteranopia": ((0.29275, 0.70725, 0), (0.29275, 0.70725, 0), (-0.02234, 0.02234, 1)),
    "grey": ((0.2126, 0.7152, 0.0722),) * 3,
}
NEIGHBOURS = [
    # Fills that lie on one another in a bar: the cache's at the bottom, refused (the ground, with an outline) on top.
    *(("serve", "compute"), ("compute", "card"), ("serve", "card")),
    # Beside the ground.
    *(("refuse", "card"), ("fail", "card")),
    # The meters, on the ground.
    *(("compute", "card"), ("short", "card"), ("down", "card")),
    # The verdict's forms.
    *((level, "card") for level in ("fine", "short", "degraded", "down")),
]


def linear(text: str) -> Rgb:
    """A colour of the style sheet."""
    digits = text.lstrip("#")
    digits = "".join(each * 2 for each in digits) if len(digits) == 3 else digits
    values = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return red, green, blue


def seen(colour: Rgb, sight: str) -> Rgb:
    """The same colour as somebody sees it."""
    red, green, blue = (
        min(1.0, max(0.0, sum(a * b for a, b in zip(row, colour, strict=True)))) for row in SIGHTS[sight]
    )
    return red, green, blue


def light(colour: Rgb) -> float:
    """Relative luminance."""
    return 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]


def contrast(a: Rgb, b: Rgb) -> float:
    """WCAG's ratio, 1 to 21."""
    low, high = sorted((light(a), light(b)))
    return (high + 0.05) / (low + 0.05)


def palettes() -> dict[str, dict[str, str]]:
    """The colours by theme."""
    found = [
        dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", block)) for block in re.findall(r":root \{(.*?)\}", CSS, re.S)
    ]
    assert len(found) == 2
    return {"light": found[0], "dark": found[1]}


def test_the_simulation_knows_what_cannot_be_told_apart() -> None:
    """The red and green that protanopia and deuteranopia are known for come together, and grey stays grey."""
    for sight in ("protanopia", "deuteranopia"):
        red, green = seen(linear("#ff0000"), sight), seen(linear("#00ff00"), sight)
        assert abs(red[0] - red[1]) < 0.01
        assert abs(green[0] - green[1]) < 0.01
    for sight in SIGHTS:
        assert seen((0.5, 0.5, 0.5), sight) == pytest.approx((0.5, 0.5, 0.5), abs=0.01)


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_neighbours_stand_apart(theme: str, sight: str) -> None:
    """3:1 between all that touch, and nothing that two share."""
    colours = {name: seen(linear(text), sight) for name, text in palettes()[theme].items()}
    close = {(a, b): round(contrast(colours[a], colours[b]), 2) for a, b in NEIGHBOURS}
    assert {pair: ratio for pair, ratio in close.items() if ratio < LEAST} == {}


def test_what_went_wrong_is_not_told_by_colour_alone() -> None:
    """Failures have a strip of their own with a heading; refusals are an outline; levels have forms and words."""
    traffic = (ROOT / "public" / "page" / "panels" / "traffic.js").read_text()
    assert 'refuse: { fill: "card", stroke: "refuse" }' in traffic
    assert "OUTCOMES.slice(0, 3)" in traffic
    assert 'word("failedStrip")' in traffic
