"""Next-token generation: a step of any model and prompts go in, answers come out.

answers = generate(step, prompt, search=Beam(4), rules=[Forbid([pad])], stop=EndToken([end]), max_new=100)
answers[0][0].tokens  # the best answer to the first source
"""

from polyhead.generation.beam import Beam
from polyhead.generation.loop import Step, generate
from polyhead.generation.rules import Forbid, ForcedAt, LogitRule, MinLength, NoRepeatNgram, RepetitionPenalty
from polyhead.generation.schedule import restore, sorted_batches
from polyhead.generation.search import Greedy, Hypothesis, Sample, Search
from polyhead.generation.stop import EndToken, StopRule

__all__ = [
    "Beam",
    "EndToken",
    "Forbid",
    "ForcedAt",
    "Greedy",
    "Hypothesis",
    "LogitRule",
    "MinLength",
    "NoRepeatNgram",
    "RepetitionPenalty",
    "Sample",
    "Search",
    "Step",
    "StopRule",
    "generate",
    "restore",
    "sorted_batches",
]
