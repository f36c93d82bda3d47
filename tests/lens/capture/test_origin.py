"""Self-attention is where keys were made from what the queries were made from, whatever modules are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from polyhead.lens.capture.origin import Origin
from polyhead.lens.capture.running import Running
from polyhead.lens.recording import Recording
from polyhead.lens.watch import watch

WIDTH, HEADS = 32, 4
IDS = torch.randint(3, 90, (2, 7), generator=torch.Generator().manual_seed(0))


def x(seed: int, long: int = 7) -> Tensor:
    return torch.randn(2, long, WIDTH, generator=torch.Generator().manual_seed(seed))


class Look(nn.Module):
    """One attention whose name and type say nothing of its kind."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (
            project(part).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for project, part in ((self.q, query), (self.k, key), (self.v, value))
        )
        return self.out(self.mix(q, k, v).transpose(1, 2).flatten(2))

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v)


class LookWrittenOut(Look):
    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v


class Parts(nn.Module):
    """Four attentions, a table of places and a few learned queries, put together by `way`."""

    def __init__(self, way: Callable[[Any], Tensor], look: type[Look]) -> None:
        super().__init__()
        self.way, (self.a, self.b, self.c, self.d) = way, (look() for _ in range(4))
        self.places, self.asked = nn.Parameter(torch.randn(1, 7, WIDTH)), nn.Parameter(torch.randn(1, 5, WIDTH))
        self.shrink, self.norm, self.words = nn.Conv1d(WIDTH, WIDTH, 2, 2), nn.LayerNorm(WIDTH), nn.Embedding(99, WIDTH)

    def forward(self) -> Tensor:
        return self.way(self)


def with_places(m: Any) -> Tensor:
    """DETR: places are added to queries and keys and not to values; the decoder asks with learned queries."""
    source = x(1)
    source = m.norm(source + m.a(source + m.places, source + m.places, source))
    asked = torch.zeros(2, 5, WIDTH)
    asked = m.norm(asked + m.b(asked + m.asked, asked + m.asked, asked))
    return m.c(asked + m.asked, source + m.places, source)


def shrunk(m: Any) -> Tensor:
    """SegFormer and PVT: keys and values come from fewer places of the same picture."""
    given = x(1)
    few = m.norm(m.shrink(given.mT).mT)
    given = given + m.a(given, few, few)
    few = m.norm(m.shrink(given.mT).mT)
    return given + m.b(given, few, few)


def latents(m: Any) -> Tensor:
    """Perceiver: learned latents read the input, then each other, and are read by learned queries."""
    held = m.asked.repeat(2, 1, 1)
    held = held + m.a(held, m.words(IDS), m.words(IDS))
    held = held + m.b(m.norm(held), m.norm(held), m.norm(held))
    return m.c(m.places.expand(2, -1, -1), held, held)


def one_table_and_one_input(m: Any) -> Tensor:
    """Source and target are one tensor with one table of places; the first attention of the decoder is of itself."""
    given = x(1) + m.places
    source, target = given + m.a(given, given, given), given + m.b(given, given, given)
    target = target + m.c(target, source, source)
    return m.d(target, target, target)


def words_of_one_table(m: Any) -> Tensor:
    source, target = m.words(IDS) + m.places, m.words(IDS) + m.places
    target = target + m.a(target, source, source)
    return m.b(target, target, target)


def steps_with_a_cache(m: Any) -> Tensor:
    """Keys of earlier words are joined by those of a new one, and what was said of it is a number for all places."""
    first = m.words(IDS)
    first = first + m.a(first, first, first)
    tone = m.b(x(2, 1), x(3, 4), x(3, 4))
    then = m.words(IDS[:, :2]) * torch.tanh(tone)
    held = torch.cat([first, then], 1)
    return m.c(then, held, held)


def borrowed_keys(m: Any) -> Tensor:
    """Later layers look at keys of an earlier one, as some models do to spare memory."""
    given = m.words(IDS)
    early = given + m.a(given, given, given)
    later = early + m.b(early, early, early)
    return m.c(later, early, early)


def spread_over_places(m: Any) -> Tensor:
    """A picture is coloured by the mean of a text, and then looks at the text."""
    text = m.words(IDS)
    text = text + m.a(text, text, text)
    picture = x(1, 9) + text.mean(1, keepdim=True)
    picture = picture + m.b(picture, picture, picture)
    return m.c(picture, text, text)


WHOLE = [torch.randint(0, 9, (2, n, WIDTH), generator=torch.Generator().manual_seed(n)).to(torch.uint8) for n in (7, 5)]

WORDS = [each[..., 0].long() for each in WHOLE]


def pictures_of_whole_numbers(m: Any) -> Tensor:
    """Of bytes, with places that are counted from 0 on and turned into waves; the first layer is a product."""
    places = torch.arange(WIDTH).float().sin()
    one, other = (m.norm((picture.float() / 9) + places) for picture in WHOLE)
    one = one + m.a(one, other, other)
    return torch.cat([m.b(one, one, one), m.c(m.norm(WHOLE[1] / 9), other, other)], 1)


def words_as_numbers_of_one_place(m: Any) -> Tensor:
    one, other = (m.norm(nn.functional.one_hot(words, WIDTH).float()) for words in WORDS)
    return m.a(one, other, other) + m.b(one, one, one)


def begun_from_a_mean(m: Any) -> Tensor:
    """A decoder whose words all begin as the mean of its source, which is then copied to every place in some way."""
    source = m.norm(x(1, 5))
    mean = source.mean(1, keepdim=True)
    for spread in (mean.expand(-1, 7, -1), mean.expand(-1, 7, -1).contiguous(), mean.repeat(1, 7, 1)):
        target = m.norm(spread + m.places)
        target = target + m.a(target, target, target)
        target = m.norm(x(3)) + m.norm(spread)
        target = target + m.b(target, source, source)
    return m.c(m.norm(mean.expand(-1, 7, -1)), source, source)


def coloured_by_a_mean(m: Any) -> Tensor:
    """Pictures [B, D, H, W], as convolutions have them."""
    text = m.words(IDS)
    picture = x(1, 8).mT.unflatten(-1, (4, 2))
    picture = picture + text.mean(1)[:, :, None, None].expand(-1, -1, 4, 2).contiguous()
    picture = picture.flatten(2).mT
    return m.a(picture, text, text) + m.b(picture, picture, picture)


SAME, OTHER = "self", "cross"
WAYS: dict[Any, list[str]] = {
    with_places: [SAME, SAME, OTHER],
    shrunk: [SAME, SAME],
    latents: [OTHER, SAME, OTHER],
    one_table_and_one_input: [SAME, SAME, OTHER, SAME],
    words_of_one_table: [OTHER, SAME],
    steps_with_a_cache: [SAME, OTHER, SAME],
    borrowed_keys: [SAME, SAME, SAME],
    spread_over_places: [SAME, SAME, OTHER],
    pictures_of_whole_numbers: [OTHER, SAME, SAME],
    words_as_numbers_of_one_place: [OTHER, SAME],
    begun_from_a_mean: [*[SAME, OTHER] * 3, OTHER],
    coloured_by_a_mean: [OTHER, SAME],
}


@pytest.mark.parametrize("look", [Look, LookWrittenOut])
@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("way", list(WAYS), ids=[way.__name__ for way in WAYS])
def test_the_kind_of_an_attention_is_where_its_keys_come_from(way: Any, inference: bool, look: type[Look]) -> None:
    model = Parts(way, look)
    with torch.inference_mode(inference), watch(model) as recording:
        model()
    assert [call.kind for call in recording] == WAYS[way] and not recording.missed


SIZES: dict[str, Any] = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
}  # fmt: skip
APART = {"relative_attention": True, "pos_att_type": "c2p|p2c", "max_relative_positions": 7}
STAGES = {"depths": [1, 1], "num_encoder_blocks": 2, "hidden_sizes": [8, 16]}
TEXT, PICTURE = {"input_ids": IDS}, {"pixel_values": x(0, 6).reshape(2, 3, 8, 8).repeat(1, 1, 8, 8)}
ALONE: dict[str, tuple[Any, Any, dict[str, Any], dict[str, Tensor]]] = {
    "MobileBERT": (
        hf.MobileBertModel, hf.MobileBertConfig,
        {**SIZES, "intra_bottleneck_size": 16, "embedding_size": 16, "true_hidden_size": 16}, TEXT,
    ),
    "DeBERTa": (hf.DebertaModel, hf.DebertaConfig, {**SIZES, **APART}, TEXT),
    "DeBERTa v2": (hf.DebertaV2Model, hf.DebertaV2Config, {**SIZES, **APART, "position_buckets": 7}, TEXT),
    "Funnel": (
        hf.FunnelModel, hf.FunnelConfig,
        {"vocab_size": 99, "block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": 32, "n_head": 4, "d_head": 8,
         "d_inner": 40}, TEXT,
    ),
    "SegFormer": (
        hf.SegformerModel, hf.SegformerConfig,
        {**STAGES, "sr_ratios": [4, 2], "num_attention_heads": [1, 2], "patch_sizes": [7, 3], "strides": [4, 2],
         "mlp_ratios": [2, 2]}, PICTURE,
    ),
    "PVT": (
        hf.PvtModel, hf.PvtConfig,
        {**STAGES, "image_size": 64, "sequence_reduction_ratios": [4, 1], "num_attention_heads": [1, 2],
         "patch_sizes": [4, 2], "strides": [4, 2], "mlp_ratios": [2, 2]}, PICTURE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ALONE))
def test_encoders_look_at_themselves_however_their_keys_are_made(name: str) -> None:
    kind, config, sizes, given = ALONE[name]
    torch.manual_seed(0)
    model = kind(config(**sizes)).eval()
    with torch.no_grad(), watch(model) as recording:
        model(**given)
    assert len(recording) >= 2 and not recording.missed
    assert {call.kind for call in recording} == {"self"}


BART: dict[str, Any] = {
    "vocab_size": 99, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "pad_token_id": 0, "eos_token_id": None,
    "bos_token_id": 1, "decoder_start_token_id": 1, "forced_eos_token_id": None,
}  # fmt: skip
T5 = {
    "vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4, "eos_token_id": None,
    "decoder_start_token_id": 0,
}  # fmt: skip
PAIRS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "BART": (hf.BartForConditionalGeneration, hf.BartConfig, BART),
    "Marian": (hf.MarianMTModel, hf.MarianConfig, BART),
    "T5": (hf.T5ForConditionalGeneration, hf.T5Config, T5),
}


def told(recording: Recording) -> set[str]:
    """Calls whose kind is not what the model's author calls the module."""
    names = ("encoder_attn", "EncDecAttention")
    return {call.name for call in recording if (call.kind == "cross") != call.name.endswith(names)}


@pytest.mark.parametrize("way", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "how", [{}, {"num_beams": 3}, {"cache_implementation": "static"}, {"use_cache": False}], ids=str
)
@pytest.mark.parametrize("name", list(PAIRS))
def test_each_step_of_a_decoder_tells_itself_from_its_source(name: str, how: dict[str, Any], way: str) -> None:
    kind, config, sizes = PAIRS[name]
    torch.manual_seed(0)
    model = kind(config(**sizes, attn_implementation=way)).eval()
    for given in (IDS, IDS[:, :3]):  # the second time, modules have run before
        with watch(model) as recording:
            model.generate(given, max_new_tokens=4, do_sample=False, **how)
        assert len(recording) == 2 + 2 * 2 * 4 and not recording.missed and not told(recording)


def test_cached_keys_that_come_from_before_the_block_are_told_from_the_source() -> None:
    kind, config, sizes = PAIRS["BART"]
    model = kind(config(**sizes)).eval()
    with torch.no_grad():
        before = model(IDS, decoder_input_ids=IDS[:, :3])
        with watch(model) as recording:
            model(
                encoder_outputs=(before.encoder_last_hidden_state,), past_key_values=before.past_key_values,
                decoder_input_ids=IDS[:, 3:4],
            )  # fmt: skip
    assert len(recording) == 4 and not told(recording)


class Pair(nn.Module):
    """Two attentions of numbers that come from nowhere, whose names alone say what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.encoder_attn = (nn.MultiheadAttention(WIDTH, HEADS, batch_first=True) for _ in range(2))

    def forward(self) -> Tensor:
        one, other = torch.zeros(2, 7, WIDTH), torch.ones(2, 5, WIDTH)
        return self.self_attn(one, one, one)[0] + self.encoder_attn(one, other, other)[0]


def test_where_neither_queries_nor_keys_come_from_anything_names_decide() -> None:
    model = Pair()
    with torch.no_grad(), watch(model) as recording:
        model()
    assert {call.name: call.kind for call in recording} == {"self_attn": SAME, "encoder_attn": OTHER}


def test_keys_of_one_word_that_all_heads_share_are_not_what_is_the_same_for_all_places() -> None:
    """Shared by heads that stand behind places [B, 1, 1, K], they are spread by the same strides."""

    class Shared(Look):
        def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            q = self.q(query).unflatten(-1, (HEADS, -1))
            k, v = (part[:, :, None, :8].expand(-1, -1, HEADS, -1).clone() for part in (self.k(key), self.v(value)))
            return self.out(self.mix(*(part.transpose(1, 2) for part in (q, k, v))).transpose(1, 2).flatten(2))

    model = Shared()
    with torch.no_grad(), watch(model) as recording:
        for given in (x(1), x(2, 1)):
            model(given, given, given)
    assert [call.kind for call in recording] == [SAME, SAME]


def test_lines_of_tensors_that_are_gone_are_forgotten() -> None:
    origin = Origin(nn.Linear(3, 3), Running({}))
    kept = torch.randn(3, 3)
    line = origin.line(kept)
    for _ in range(5000):
        origin.line(torch.randn(3, 3))
    assert len(origin.lines) < 2500 and origin.line(kept) == line
