"""How far a training is: every number is seen at any width, and the two losses have two names."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from polyhead.training.progress import Live, Plain, clock, line, screen, share_and_left

VALUES = {"epoch": 3.0, "train/loss": 2.41, "lr": 4.1e-4, "tokens_per_second": 5480.0}
SCORES = {"loss": 2.3051, "bleu": 20.125, "chrf": 41.23}
LINE = line(1200, VALUES, SCORES, 2470.0)


def test_a_line_has_the_time_left_first_and_one_name_for_each_number() -> None:
    assert LINE == (
        "left 0:41:10  epoch 3  step 1200  loss 2.410  lr 4.1e-04  5,480 tokens/s  "
        "valid loss 2.305  bleu 20.12  chrf 41.23"
    )
    assert line(1, VALUES, {}, None).startswith("epoch 3  step 1  loss")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_width_cuts_a_number_off_and_the_bar_stays(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    live = screen(console)
    assert isinstance(live, Live)
    live.move(0.5, LINE)
    live.close()
    page = Console(file=(file := io.StringIO()), width=width)
    page.print(live.progress.get_renderable())
    shown = file.getvalue()
    assert "…" not in shown
    assert "".join(shown.split()).replace("━", "").replace("╸", "").replace("╺", "") == "".join(LINE.split())
    assert shown.count("━") >= min(24, width // 4) // 2


def test_a_file_gets_plain_lines() -> None:
    console = Console(file=(file := io.StringIO()), width=40)
    plain = screen(console)
    assert isinstance(plain, Plain)
    plain.move(0.5, LINE)
    plain.log(LINE)
    assert file.getvalue() == LINE + "\n"


def test_the_limit_that_comes_first_says_what_is_left() -> None:
    assert share_and_left(step=10, steps=40, seconds=5.0, limit=0.0, pace=2.0) == (0.25, 60.0)
    assert share_and_left(step=10, steps=40, seconds=5.0, limit=20.0, pace=2.0) == (0.25, 15.0)
    assert share_and_left(step=10, steps=0, seconds=5.0, limit=0.0, pace=2.0) == (0.0, None)
    assert clock(3723.4) == "1:02:03"
