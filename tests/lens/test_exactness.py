"""What a recording says of its exactness is said in Chinese too, whatever was kept."""

from __future__ import annotations

import pytest

from polyhead.lens.exactness import in_chinese
from tests.lens.tiny import CROSS, each_level, marian, ran


def english(sentence: str) -> list[str]:
    return [word for word in sentence.replace("float32", "").replace("e-", "") if word.isascii() and word.isalpha()]


@each_level
def test_no_english_is_left_but_the_name_of_a_type(level: str) -> None:
    said = ran(marian(), level=level)[1][CROSS].exactness
    assert english(said) and not english(in_chinese(said)) and in_chinese(said) != said


def test_of_a_layer_that_was_run_again_both_halves_are_said() -> None:
    said = ran(marian(), level="inputs")[1].replay(CROSS).exactness
    off = said.split("off by ")[1].split(";")[0]
    assert in_chinese(said) == f"重新运行过，输出相差 {off}；权重精确到 float32 乘积的舍入误差"


@pytest.mark.parametrize("said", ["exact enough", "", "weights exact to the rounding of {0} products"])
def test_what_is_not_known_stands_as_it_is(said: str) -> None:
    assert in_chinese(said) == said
