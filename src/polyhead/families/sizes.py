"""The sizes that papers and releases name, `family.tag`: how each differs from its family's defaults, and who says so.

`said` is what the source says of its parameters. Reading this file builds no model and loads no torch; polyhead.info
counts a size without its weights, and the tests compare every count with `said`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from polyhead.errors import ArgumentError, did_you_mean


@dataclass(frozen=True)
class Size:
    """architecture: which family builds it. said: its parameters, in the source's digits. settings: of the family's
    Config. length: tokens of a text read at once, where the family's places have no end. note: what to know of it."""

    architecture: str
    said: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    length: int | None = None
    note: str = ""


def group(
    architecture: str,
    source: str,
    columns: tuple[str, ...],
    rows: Mapping[str, tuple[Any, ...]],
    *,
    length: int | None = None,
    note: str = "",
    notes: Mapping[str, str] | None = None,
    **shared: Any,
) -> dict[str, Size]:
    """The rows of one table: name -> what is said, then a value for each column. `shared` holds for all of them."""
    return {
        name: Size(
            architecture, said, source, {**shared, **dict(zip(columns, values, strict=True))}, length,
            (notes or {}).get(name, note),
        )
        for name, (said, *values) in rows.items()
    }  # fmt: skip


DEEP = ("n_layers", "d_model", "n_heads")
BOTH = (*DEEP, "d_ff")
GROUPED = (*BOTH, "n_kv_heads")
HEADED = (*GROUPED, "tied")
SPARSE = (
    "every second layer of GPT-3 looks at a band of the text only, which its paper does not describe to the letter;"
    " counted as if every layer looked at all: an upper bound of the attention"
)

GPT2 = group(
    "GPT2LMHeadModel", "Radford et al. 2019, table 2; parameters as the release corrected them", DEEP,
    {
        "gpt2.small": ("124M", 12, 768, 12),
        "gpt2.medium": ("355M", 24, 1024, 16),
        "gpt2.large": ("774M", 36, 1280, 20),
        "gpt2.xl": ("1558M", 48, 1600, 25),
    },
)  # fmt: skip
GPT3 = group(
    "GPT2LMHeadModel", "Brown et al. 2020, table 2.1; parameters of table D.1", DEEP,
    {
        "gpt3.125m": ("125M", 12, 768, 12),
        "gpt3.350m": ("356M", 24, 1024, 16),
        "gpt3.760m": ("760M", 24, 1536, 16),
        "gpt3.1.3b": ("1,320M", 24, 2048, 16),
        "gpt3.2.7b": ("2,650M", 32, 2560, 32),
        "gpt3.6.7b": ("6,660M", 32, 4096, 32),
        "gpt3.13b": ("12,850M", 40, 5120, 40),
        "gpt3.175b": ("174,600M", 96, 12288, 96),
    },
    note=SPARSE,
    notes={
        "gpt3.1.3b": f"{SPARSE}. Table 2.1 says 24 heads of 128; only 16 of them make its width and its parameters",
        "gpt3.13b": f"{SPARSE}. Table 2.1 says a width of 5140; only 40 heads of 128, 5120, give its parameters",
    },
    max_len=2048, dropout=0.0, embed_dropout=0.0, attention_dropout=0.0,
)  # fmt: skip
MEGATRON = group(
    "GPT2LMHeadModel", "Shoeybi et al. 2019, table 1", DEEP,
    {
        "megatron.1.2b": ("1.2B", 40, 1536, 16),
        "megatron.2.5b": ("2.5B", 54, 1920, 20),
        "megatron.4.2b": ("4.2B", 64, 2304, 24),
        "megatron.8.3b": ("8.3B", 72, 3072, 32),
    },
    note="GPT-2 with its words filled up to 51,200, so that eight processors share them evenly", vocab_size=51200,
)  # fmt: skip
TNLG = group(
    "GPT2LMHeadModel", "Microsoft's announcement of Turing-NLG, February 2020", DEEP,
    {"tnlg.17b": ("17B", 78, 4256, 28)},
    note="the announcement names layers, width and heads; words and places are those of GPT-2",
)  # fmt: skip

BLOOM = group(
    "BloomForCausalLM", "Le Scao et al. 2022, table 3", DEEP,
    {
        "bloom.560m": ("559M", 24, 1024, 16),
        "bloom.1.1b": ("1,065M", 24, 1536, 16),
        "bloom.1.7b": ("1,722M", 24, 2048, 16),
        "bloom.3b": ("3,003M", 30, 2560, 32),
        "bloom.7.1b": ("7,069M", 30, 4096, 32),
        "bloom.176b": ("176,247M", 70, 14336, 112),
    },
    length=2048, note="250,680 words, filled up to 250,880; it learned from 2,048 of them at once",
)  # fmt: skip
BERT = group(
    "BertModel", "Devlin et al. 2019, section 3; below base: Turc et al. 2019, with both heads of pretraining", BOTH,
    {
        "bert.tiny": ("4.4M", 2, 128, 2, 512),
        "bert.mini": ("11.3M", 4, 256, 4, 1024),
        "bert.small": ("29.1M", 4, 512, 8, 2048),
        "bert.medium": ("41.7M", 8, 512, 8, 2048),
        "bert.base": ("110M", 12, 768, 12, 3072),
        "bert.large": ("340M", 24, 1024, 16, 4096),
    },
)  # fmt: skip
ROBERTA = group(
    "RobertaForMaskedLM", "Liu et al. 2019, with its release", BOTH,
    {"roberta.base": ("125M", 12, 768, 12, 3072), "roberta.large": ("355M", 24, 1024, 16, 4096)},
)  # fmt: skip
DISTILBERT = group("DistilBertModel", "Sanh et al. 2019, table 3", (), {"distilbert.base": ("66M",)})
ELECTRA = group(
    "ElectraForPreTraining", "Clark et al. 2020, section 3 and table 2", ("d_embed", *BOTH),
    {
        "electra.small": ("14M", 128, 12, 256, 4, 1024),
        "electra.base": ("110M", 768, 12, 768, 12, 3072),
        "electra.large": ("335M", 1024, 24, 1024, 16, 4096),
    },
)  # fmt: skip

TRANSFORMER = group(
    "MarianMTModel", "Vaswani et al. 2017, table 3", ("d_model", "n_heads", "n_decoder_heads", "d_ff", "decoder_d_ff"),
    {"transformer.base": ("65M", 512, 8, 8, 2048, 2048), "transformer.big": ("213M", 1024, 16, 16, 4096, 4096)},
    note="the paper says about 37,000 words for English and German, not how many exactly",
)  # fmt: skip
BART = group(
    "BartForConditionalGeneration", "Lewis et al. 2019, section 4; parameters of the release's list",
    ("n_layers", "n_decoder_layers", "d_model", "n_heads", "n_decoder_heads", "d_ff", "decoder_d_ff"),
    {"bart.base": ("140M", 6, 6, 768, 12, 12, 3072, 3072), "bart.large": ("400M", 12, 12, 1024, 16, 16, 4096, 4096)},
)  # fmt: skip
T5_WIDE = (*BOTH, "head_dim")
T5 = group(
    "T5ForConditionalGeneration", "Raffel et al. 2020, section 3.7", T5_WIDE,
    {
        "t5.small": ("60M", 6, 512, 8, 2048, 64),
        "t5.base": ("220M", 12, 768, 12, 3072, 64),
        "t5.large": ("770M", 24, 1024, 16, 4096, 64),
        "t5.3b": ("2.8B", 24, 1024, 32, 16384, 128),
        "t5.11b": ("11B", 24, 1024, 128, 65536, 128),
    },
    length=512,
    notes={"t5.large": "the paper's 770M holds if the words of the readout are counted a second time; they are shared"},
)  # fmt: skip
V1_1: dict[str, Any] = {"mlp": "gated-gelu", "tied": False, "scaled": False}
FLAN = group(
    "T5ForConditionalGeneration", "Chung et al. 2022, table 2; the shapes of T5 v1.1", T5_WIDE,
    {
        "flan-t5.small": ("80M", 8, 512, 6, 1024, 64),
        "flan-t5.base": ("250M", 12, 768, 12, 2048, 64),
        "flan-t5.large": ("780M", 24, 1024, 16, 2816, 64),
        "flan-t5.xl": ("3B", 24, 2048, 32, 5120, 64),
        "flan-t5.xxl": ("11B", 24, 4096, 64, 10240, 64),
    },
    length=512, **V1_1,
)  # fmt: skip
MT5 = group(
    "MT5ForConditionalGeneration", "Xue et al. 2021, section 3", T5_WIDE,
    {
        "mt5.small": ("300M", 8, 512, 6, 1024, 64),
        "mt5.base": ("580M", 12, 768, 12, 2048, 64),
        "mt5.large": ("1.2B", 24, 1024, 16, 2816, 64),
        "mt5.xl": ("3.7B", 24, 2048, 32, 5120, 64),
        "mt5.xxl": ("13B", 24, 4096, 64, 10240, 64),
    },
    length=1024, vocab_size=250112, **V1_1,
)  # fmt: skip

LLAMA = group(
    "LlamaForCausalLM", "Touvron et al. 2023, table 2", BOTH,
    {
        "llama.7b": ("6.7B", 32, 4096, 32, 11008),
        "llama.13b": ("13.0B", 40, 5120, 40, 13824),
        "llama.33b": ("32.5B", 60, 6656, 52, 17920),
        "llama.65b": ("65.2B", 80, 8192, 64, 22016),
    },
)  # fmt: skip
LLAMA2 = group(
    "LlamaForCausalLM", "Touvron et al. 2023 (Llama 2), table 1", GROUPED,
    {
        "llama2.7b": ("7B", 32, 4096, 32, 11008, 32),
        "llama2.13b": ("13B", 40, 5120, 40, 13824, 40),
        "llama2.70b": ("70B", 80, 8192, 64, 28672, 8),
    },
    max_len=4096, norm_eps=1e-5,
)  # fmt: skip
LLAMA3 = group(
    "LlamaForCausalLM", "Grattafiori et al. 2024, table 3; 1B and 3B: the release of Llama 3.2", HEADED,
    {
        "llama3.1b": ("1.23B", 16, 2048, 32, 8192, 8, True),
        "llama3.3b": ("3.21B", 28, 3072, 24, 8192, 8, True),
        "llama3.8b": ("8B", 32, 4096, 32, 14336, 8, False),
        "llama3.70b": ("70B", 80, 8192, 64, 28672, 8, False),
        "llama3.405b": ("405B", 126, 16384, 128, 53248, 8, False),
    },
    note="a text of 8,192 tokens, as in pretraining; with stretched places it reads up to 131,072",
    vocab_size=128256, max_len=8192, norm_eps=1e-5,
)  # fmt: skip
QWEN2 = group(
    "Qwen2ForCausalLM", "the cards of Qwen2.5's release", (*HEADED, "vocab_size"),
    {
        "qwen2.5.0.5b": ("0.49B", 24, 896, 14, 4864, 2, True, 151936),
        "qwen2.5.1.5b": ("1.54B", 28, 1536, 12, 8960, 2, True, 151936),
        "qwen2.5.3b": ("3.09B", 36, 2048, 16, 11008, 2, True, 151936),
        "qwen2.5.7b": ("7.61B", 28, 3584, 28, 18944, 4, False, 152064),
        "qwen2.5.14b": ("14.7B", 48, 5120, 40, 13824, 8, False, 152064),
        "qwen2.5.32b": ("32.5B", 64, 5120, 40, 27648, 8, False, 152064),
        "qwen2.5.72b": ("72.7B", 80, 8192, 64, 29568, 8, False, 152064),
    },
    notes={"qwen2.5.32b": "the card says a little less than its files hold"},
)  # fmt: skip
QWEN3 = group(
    "Qwen3ForCausalLM", "Yang et al. 2025, table 1; parameters of the release's cards", HEADED,
    {
        "qwen3.0.6b": ("0.6B", 28, 1024, 16, 3072, 8, True),
        "qwen3.1.7b": ("1.7B", 28, 2048, 16, 6144, 8, True),
        "qwen3.4b": ("4.0B", 36, 2560, 32, 9728, 8, True),
        "qwen3.8b": ("8.2B", 36, 4096, 32, 12288, 8, False),
        "qwen3.14b": ("14.8B", 40, 5120, 40, 17408, 8, False),
        "qwen3.32b": ("32.8B", 64, 5120, 64, 25600, 8, False),
    },
    head_dim=128,
)  # fmt: skip
MISTRAL = group(
    "MistralForCausalLM", "Jiang et al. 2023, table 1", (), {"mistral.7b": ("7B",)}, max_len=8192, norm_eps=1e-5
)

MIXTRAL = group(
    "MixtralForCausalLM", "Jiang et al. 2024, table 1 and section 2.1; 8x22B: its release", (*GROUPED, "max_len"),
    {
        "mixtral.8x7b": ("47B", 32, 4096, 32, 14336, 8, 32768),
        "mixtral.8x22b": ("141B", 56, 6144, 48, 16384, 8, 65536),
    },
    notes={"mixtral.8x7b": "the paper says that 13B have a part in one word"},
)  # fmt: skip
MANY = ("n_experts", "n_layers", "n_decoder_layers", "d_model", "n_heads", "d_ff", "n_sparse", "n_decoder_sparse")
SWITCH = group(
    "SwitchTransformersForConditionalGeneration",
    "Fedus et al. 2021, tables 7 and 9; base-8: its release", MANY,
    {
        "switch.base-8": ("619M", 8, 12, 12, 768, 12, 3072, 6, 6),
        "switch.base-16": ("1.1B", 16, 12, 12, 768, 12, 3072, 6, 6),
        "switch.base-32": ("2.0B", 32, 12, 12, 768, 12, 3072, 6, 6),
        "switch.base-64": ("3.8B", 64, 12, 12, 768, 12, 3072, 6, 6),
        "switch.base-128": ("7.4B", 128, 12, 12, 768, 12, 3072, 6, 6),
        "switch.base-256": ("14.7B", 256, 12, 12, 768, 12, 3072, 6, 6),
        "switch.large-128": ("26B", 128, 24, 24, 1024, 16, 4096, 12, 12),
        "switch.c-2048": ("1571B", 2048, 15, 15, 2080, 32, 6144, 15, 15),
    },
    length=512,
    note="of the shape of the released models, which bend by ReLU; the paper's table 9 has a gate, and a smaller d_ff",
    notes={"switch.c-2048": ""},
)  # fmt: skip

VIT = group(
    "ViTModel", "Dosovitskiy et al. 2021, table 1", (*BOTH, "patch_size"),
    {
        "vit.base": ("86M", 12, 768, 12, 3072, (16, 16)),
        "vit.large": ("307M", 24, 1024, 16, 4096, (16, 16)),
        "vit.huge": ("632M", 32, 1280, 16, 5120, (14, 14)),
    },
    notes={"vit.large": "the paper's 307M holds for patches of 32 pixels; these are of 16"},
)  # fmt: skip
DEIT = group(
    "DeiTForImageClassificationWithTeacher", "Touvron et al. 2021, table 5, with a teacher", BOTH,
    {
        "deit.tiny": ("6M", 12, 192, 3, 768),
        "deit.small": ("22M", 12, 384, 6, 1536),
        "deit.base": ("87M", 12, 768, 12, 3072),
    },
    labels=tuple(f"LABEL_{i}" for i in range(1000)),
)  # fmt: skip
WHISPER = group(
    "WhisperForConditionalGeneration", "Radford et al. 2022, table 1",
    ("n_layers", "n_decoder_layers", "d_model", "n_heads", "n_decoder_heads", "d_ff", "decoder_d_ff"),
    {
        "whisper.tiny": ("39M", 4, 4, 384, 6, 6, 1536, 1536),
        "whisper.base": ("74M", 6, 6, 512, 8, 8, 2048, 2048),
        "whisper.small": ("244M", 12, 12, 768, 12, 12, 3072, 3072),
        "whisper.medium": ("769M", 24, 24, 1024, 16, 16, 4096, 4096),
        "whisper.large": ("1550M", 32, 32, 1280, 20, 20, 5120, 5120),
    },
    note="the paper counts up to 3% more than its released weights have; these are of the same shapes",
)  # fmt: skip

CLIP_BASE: dict[str, Any] = {}
CLIP_LARGE: dict[str, Any] = {
    "d_shared": 768, "text": {"d_model": 768, "n_heads": 12, "d_ff": 3072},
    "image": {"n_layers": 24, "d_model": 1024, "n_heads": 16, "d_ff": 4096},
}  # fmt: skip


def clip(said: str, patch: int, side: int, size: Mapping[str, Any]) -> Size:
    """Two towers, of which the image's reads so many pixels in patches of so many."""
    image = {**size.get("image", {}), "patch_size": (patch, patch), "image_size": (side, side)}
    source = "Radford et al. 2021, table 20; parameters of OpenCLIP's model profile"
    return Size("CLIPModel", said, source, {**size, "image": image})


CLIP = {
    "clip.b32": clip("151.28M", 32, 224, CLIP_BASE),
    "clip.b16": clip("149.62M", 16, 224, CLIP_BASE),
    "clip.l14": clip("427.62M", 14, 224, CLIP_LARGE),
    "clip.l14-336": clip("427.94M", 14, 336, CLIP_LARGE),
}


def siglip(said: str, side: int, patch: int, deep: tuple[int, ...], length: int = 64) -> Size:
    """Two towers of one shape, of which the image's reads so many pixels in patches of so many."""
    shape = dict(zip(BOTH, deep, strict=True))
    image = {**shape, "patch_size": (patch, patch), "image_size": (side, side)}
    source = "Zhai et al. 2023 and its release; parameters of OpenCLIP's model profile"
    return Size("SiglipModel", said, source, {"text": {**shape, "max_len": length}, "image": image})


SIGLIP = {
    "siglip.b16": siglip("203.16M", 224, 16, (12, 768, 12, 3072)),
    "siglip.l16-256": siglip("652.15M", 256, 16, (24, 1024, 16, 4096)),
    "siglip.so400m14": siglip("877.36M", 224, 14, (27, 1152, 16, 4304), 16),
    "siglip.so400m14-384": siglip("877.96M", 384, 14, (27, 1152, 16, 4304)),
}

SIZES: dict[str, Size] = {
    **GPT2, **GPT3, **MEGATRON, **TNLG, **BLOOM, **BERT, **ROBERTA, **DISTILBERT, **ELECTRA, **TRANSFORMER, **BART,
    **T5, **FLAN, **MT5, **LLAMA, **LLAMA2, **LLAMA3, **QWEN2, **QWEN3, **MISTRAL, **MIXTRAL,
    **SWITCH, **VIT, **DEIT, **CLIP, **SIGLIP, **WHISPER,
}  # fmt: skip
USUAL = ("bert.base", "gpt2.small")  # an encoder and a decoder that speeds are told of


def size(name: str) -> Size:
    """A published size by its name. Raises ArgumentError for a name that is none."""
    if name not in SIZES:
        raise ArgumentError(
            f"There is no published size '{name}'.{did_you_mean(name, SIZES)} `polyhead info --sizes` lists them"
        )
    return SIZES[name]
