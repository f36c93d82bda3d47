"""Next-token generation: a step of any model and prompts go in, answers come out.

answers = generate(step, prompt, search=Beam(4), rules=[Forbid([pad])], stop=EndToken([end]), max_new=100)
answers[0][0].tokens  # the best answer to the first source
"""

from polyhead.generation.beam import Beam
from polyhead.generation.constrained_beam import ConstrainedBeam
from polyhead.generation.continuous import Engine, Handle, Request
from polyhead.generation.contrastive import Contrastive
from polyhead.generation.diverse_beam import DiverseBeam
from polyhead.generation.guidance import Guided
from polyhead.generation.loop import Step, generate
from polyhead.generation.rules import (
    EndsGrow,
    Forbid,
    ForbidFirst,
    ForcedAt,
    LogitRule,
    MinLength,
    NoRepeatNgram,
    Normalize,
    RepetitionPenalty,
    SequenceBias,
)
from polyhead.generation.sampled_beam import SampledBeam
from polyhead.generation.schedule import restore, sorted_batches
from polyhead.generation.search import Greedy, Hypothesis, Sample, Search
from polyhead.generation.source_rules import Source, SourceNoRepeatNgram, SourceReward
from polyhead.generation.speculative import Draft, Drafted, Lookup, speculate
from polyhead.generation.stop import EndToken, StopRule

__all__ = [
    "Beam",
    "ConstrainedBeam",
    "Contrastive",
    "DiverseBeam",
    "Draft",
    "Drafted",
    "EndToken",
    "EndsGrow",
    "Engine",
    "Forbid",
    "ForbidFirst",
    "ForcedAt",
    "Greedy",
    "Guided",
    "Handle",
    "Hypothesis",
    "LogitRule",
    "Lookup",
    "MinLength",
    "NoRepeatNgram",
    "Normalize",
    "RepetitionPenalty",
    "Request",
    "Sample",
    "SampledBeam",
    "Search",
    "SequenceBias",
    "Source",
    "SourceNoRepeatNgram",
    "SourceReward",
    "Step",
    "StopRule",
    "generate",
    "restore",
    "sorted_batches",
    "speculate",
]
