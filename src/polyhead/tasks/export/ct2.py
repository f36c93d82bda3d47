"""A loaded model becomes the model that CTranslate2 runs: our modules under its names, settings, vocabularies.

All families are made of one embedding, one stack and one head, so that one table serves them all. What CTranslate2 does
not compute is refused here, everything at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from polyhead.core import Recipe, Stack
from polyhead.core.mlp import MLP
from polyhead.core.position import LinearBias, Position, RelativeBias
from polyhead.core.rotary import ByWavelength, Rotary, Slower, Speeds
from polyhead.errors import ArgumentError
from polyhead.inputs.pair import Pair
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.tasks.load import Loaded
from polyhead.weights.ct2 import Model

Variables = dict[str, Tensor]

#  activations by their names in recipes -> by their numbers in the format
ACTIVATIONS = {
    "relu": 0, "gelu_new": 1, "gelu_pytorch_tanh": 1, "gelu_fast": 1, "silu": 2, "swish": 2, "gelu": 3, "quick_gelu": 4,
    "tanh": 5,
}  # fmt: skip
#  where a head's words may not go; a number that float16 holds
NEVER = -6e4
#  what it runs, in words
RUNS = "translation and text to text, next words, vectors of texts, speech to text"


def ct2_model(loaded: Loaded) -> Model:
    """The model as `weights.ct2.write` writes it. Raises ArgumentError naming all that CTranslate2 does not run."""
    kind, model = loaded.family, loaded.model
    stacks = [stack for stack in (getattr(model, side, None) for side in ("encoder", "decoder")) if stack is not None]
    most = getattr(loaded.config, "max_len", 0)
    if wrong := [*unfit_kind(loaded), *(reason for stack in stacks for reason in unfit(stack, most))]:
        raise ArgumentError(
            f"CTranslate2 does not run this {kind.architecture}: {'; '.join(dict.fromkeys(wrong))}. It runs {RUNS}"
        )
    match kind.reads, kind.does:
        case "sound", _:
            return hearer(loaded)
        case "pair", _:
            return translator(loaded)
        case _, "next word":
            return writer(loaded)
        case _:
            return reader(loaded)


def unfit_kind(loaded: Loaded) -> Iterator[str]:
    kind, model = loaded.family, loaded.model
    if "image" in kind.reads:
        yield "it reads images"
    elif kind.reads == "text" and kind.does not in ("next word", "vectors"):
        yield f"it gives {kind.does}, and encoders run there without a head"
    elif kind.does == "vectors" and hasattr(model, "decode"):
        yield "it reads its own past and has no words to say"
    if kind.reads == "sound" and (bend := cast(Any, model).encoder.recipe.activation) != "gelu":
        yield f"its encoder bends by {bend}, and those of sound bend there by gelu"
    if kind.reads == "text" and isinstance(cast(Any, model).embed.project, nn.Linear):
        yield "its words are narrower than its stack"
    if len(found := {norm.eps or 0.0 for norm in model.modules() if isinstance(norm, nn.LayerNorm | nn.RMSNorm)}) > 1:
        yield f"its norms have several epsilons ({', '.join(map(str, sorted(found)))})"


def unfit(ours: Stack, most: int) -> Iterator[str]:
    """What of a stack that reads `most` words CTranslate2 does not compute."""
    recipe = ours.recipe
    if not all(isinstance(block.mlp, MLP) for block in ours.blocks):
        yield "its blocks hold mixtures of experts"
    if windows := sorted({w for w in recipe.windows if w is not None and w < most}):
        yield f"its layers see {windows[0]:,} words back at most, of {most:,} places"
    if recipe.activation not in ACTIVATIONS:
        yield f"its MLP bends by {recipe.activation}"
    if recipe.softcap is not None:
        yield "its scores are capped"
    if isinstance(recipe.position, Rotary) and type(recipe.position.speeds) not in (Speeds, Slower, ByWavelength):
        yield f"its rotary positions are stretched in the way of {type(recipe.position.speeds).__name__}"
    elif type(recipe.position) not in (Position, Rotary, RelativeBias, LinearBias):
        yield f"its positions are {type(recipe.position).__name__}"


# ------------------------------------------------------------------------------------------------- the four kinds there


def translator(loaded: Loaded) -> Model:
    model: Any = loaded.model
    source, target = sides(loaded)
    never = {*forbidden(loaded), loaded.config.pad_id} - {loaded.config.eos_id}  # as `translate` has it
    variables = {
        **stack("encoder", model.encoder, model.source, "embeddings_0"),
        **stack("decoder", model.decoder, model.target, "embeddings"),
        **said("decoder", model.head, sorted(never)),
    }
    start = loaded.config.start_id
    start = loaded.generation.get("decoder_start_token_id") if start is None else start
    config = {
        **special(loaded, target), "decoder_start_token": None if start is None else target[start],
        "add_source_bos": False, "add_source_eos": False, **settings(model.decoder),
    }  # fmt: skip
    vocabularies = {"shared_vocabulary": source}
    if source != target:
        vocabularies = {"source_vocabulary": source, "target_vocabulary": target}
    return Model("TransformerSpec", 7, variables, config, vocabularies)


def writer(loaded: Loaded) -> Model:
    model: Any = loaded.model
    words, _ = sides(loaded)
    variables = {
        **stack("decoder", model.decoder, model.embed, "embeddings"),
        **said("decoder", model.head, forbidden(loaded)),
    }
    config = {**special(loaded, words), **settings(model.decoder)}
    return Model("TransformerDecoderSpec", 8, variables, config, {"vocabulary": words})


def reader(loaded: Loaded) -> Model:
    model: Any = loaded.model
    words, _ = sides(loaded)
    variables = stack("encoder", model.encoder, model.embed, "embeddings_0")
    if model.embed.kinds is not None:
        variables |= {"encoder/embeddings_1/weight": model.embed.kinds.weight}
        variables |= {"encoder/embeddings_merge": number(1, torch.int8)}  # added, not side by side
    if isinstance(model.head.dense, nn.Linear):
        variables |= {**linear("pooler_dense", model.head.dense), "pooler_activation": number(5, torch.int8)}
    config = {**special(loaded, words), **settings(model.encoder)}
    return Model("TransformerEncoderSpec", 1, variables, config, {"vocabulary": words})


def hearer(loaded: Loaded) -> Model:
    model: Any = loaded.model
    _, words = sides(loaded)
    frames, says = model.source, loaded.generation
    variables = {
        **linear("encoder/conv1", frames.first),
        **linear("encoder/conv2", frames.second),
        "encoder/position_encodings/encodings": places(frames.positions, loaded.config.n_frames),
        **blocks("encoder", model.encoder),
        "encoder/num_heads": number(model.encoder.recipe.n_heads, torch.int16),
        **stack("decoder", model.decoder, model.target, "embeddings"),
        **said("decoder", model.head, []),
    }
    recipe = model.decoder.recipe
    later = [[layer, head] for layer in range(recipe.n_layers // 2, recipe.n_layers) for head in range(recipe.n_heads)]
    config = {
        "suppress_ids": says.get("suppress_tokens") or [],
        "suppress_ids_begin": says.get("begin_suppress_tokens") or [],
        "lang_ids": sorted((says.get("lang_to_id") or {}).values()),
        "alignment_heads": says.get("alignment_heads") or later,
        **settings(model.decoder),
    }
    name = f"{loaded.family.model_type.capitalize()}Spec"  # models of speech are called by their own names there
    return Model(name, 3, variables, config, {"vocabulary": words})


# ------------------------------------------------------------------------------------------------------------ variables


def stack(scope: str, ours: Stack, embed: Any, embedding: str) -> Variables:
    """A stack, and the embedding that it reads."""
    recipe = ours.recipe
    decodes = scope == "decoder"
    found = {
        f"{scope}/{embedding}/weight": embed.tokens.weight,
        f"{scope}/scale_embeddings": number(0, torch.int8) if embed.scale == 1 else number(embed.scale, torch.float32),
        f"{scope}/num_heads": number(recipe.n_heads, torch.int16),
        f"{scope}/pre_norm": number(recipe.norm_at == "pre", torch.int8),
        f"{scope}/activation": number(ACTIVATIONS[recipe.activation], torch.int8),
        f"{scope}/embeddings_merge": number(0, torch.int8),
        **blocks(scope, ours),
    }
    if decodes:
        linear_bias = isinstance(recipe.position, LinearBias)
        del found[f"{scope}/embeddings_merge"]
        found |= {
            f"{scope}/alignment_layer": number(-1, torch.int16),
            f"{scope}/alignment_heads": number(1, torch.int16),
            f"{scope}/start_from_zero_embedding": number(0, torch.int8),
            f"{scope}/alibi": number(linear_bias, torch.int8),
            f"{scope}/alibi_use_positive_positions": number(linear_bias, torch.int8),
            f"{scope}/scale_alibi": number(0, torch.int8),
        }
    if embed.positions is not None:
        found |= {f"{scope}/position_encodings/encodings": places(embed.positions)}
    if not isinstance(embed.norm, nn.Identity):
        found |= norm(f"{scope}/layernorm_embedding", embed.norm)
    return found


def blocks(scope: str, ours: Stack) -> Variables:
    """The blocks of a stack and its last norm."""
    recipe, found = ours.recipe, Variables()
    for i, block in enumerate(ours.blocks):
        found |= layer(f"{scope}/layer_{i}", block, ours)
    return found | (norm(f"{scope}/layer_norm", ours.final_norm) if recipe.final_norm else {})


def layer(scope: str, block: Any, ours: Stack) -> Variables:
    own, mlp, recipe = block.attn, block.mlp, ours.recipe
    found = {
        **linear(f"{scope}/self_attention/linear_0", own.query, own.key, own.value),
        **linear(f"{scope}/self_attention/linear_1", own.out),
        **norm(f"{scope}/self_attention/layer_norm", block.attn_norm),
        **attention(f"{scope}/self_attention", recipe),
        **positions(f"{scope}/self_attention", ours),
    }
    if recipe.head_norm is not None:
        found |= norm(f"{scope}/self_attention/q_norm", own.query_norm)
        found |= norm(f"{scope}/self_attention/k_norm", own.key_norm)
    if recipe.cross:
        found |= {
            **linear(f"{scope}/attention/linear_0", block.cross.query),
            **linear(f"{scope}/attention/linear_1", block.cross.key, block.cross.value),
            **linear(f"{scope}/attention/linear_2", block.cross.out),
            **norm(f"{scope}/attention/layer_norm", block.cross_norm),
            **attention(f"{scope}/attention", recipe),
        }
    if recipe.gated:
        found |= linear(f"{scope}/ffn/linear_0", mlp.gate) | linear(f"{scope}/ffn/linear_0_noact", mlp.up)
    else:
        found |= linear(f"{scope}/ffn/linear_0", mlp.up)
    return {**found, **linear(f"{scope}/ffn/linear_1", mlp.down), **norm(f"{scope}/ffn/layer_norm", block.mlp_norm)}


def attention(scope: str, recipe: Recipe) -> Variables:
    """Sizes of heads, where they are not the usual ones."""
    found = Variables()
    if recipe.scale is not None:
        found |= {f"{scope}/queries_scale": number(recipe.scale, torch.float32)}
    if recipe.kv_heads != recipe.n_heads:
        found |= {f"{scope}/num_heads_kv": number(recipe.kv_heads, torch.int32)}
    if recipe.head_width * recipe.n_heads != recipe.d_model:
        found |= {f"{scope}/head_dim": number(recipe.head_width, torch.int32)}
    return found


def positions(scope: str, ours: Stack) -> Variables:
    """What positions do inside the attention of every layer."""
    match ours.recipe.position:
        case RelativeBias() as kind:
            bias: Any = ours.bias
            return {
                f"{scope}/relative_attention_bias": bias.weight,
                f"{scope}/relative_attention_max_distance": number(kind.max_distance, torch.int32),
            }
        case Rotary(theta, speeds):
            found = {
                f"{scope}/rotary_dim": number(0, torch.int32),  # all of a head
                f"{scope}/rotary_interleave": number(0, torch.int8),
                f"{scope}/rotary_base": number(theta, torch.float32),
            }
            return found | {f"{scope}/{name}": value for name, value in stretched(speeds).items()}
        case _:
            return {}


def stretched(speeds: Speeds) -> Variables:
    match speeds:
        case Slower(factor):
            return {
                "rotary_scaling_type": number(0, torch.int8),
                "rotary_scaling_factor": number(factor, torch.float32),
            }
        case ByWavelength(factor, low, high, trained):
            return {
                "rotary_scaling_type": number(2, torch.int8),
                "rotary_scaling_factor": number(factor, torch.float32),
                "rotary_low_freq_factor": number(low, torch.float32),
                "rotary_high_freq_factor": number(high, torch.float32),
                "original_max_position_embeddings": number(trained, torch.int32),
            }
        case _:
            return {}


def said(scope: str, head: Any, never: Sequence[int]) -> Variables:
    """The words of a head; those that may never be said get a bias that no score outweighs."""
    words, scale = getattr(head, "words", head), getattr(head, "scale", 1.0)
    found: Variables = linear(f"{scope}/projection", words)
    if never:
        place = f"{scope}/projection/bias"
        bias = found[place].detach() if place in found else words.weight.new_zeros(len(words.weight))
        found[place] = bias.index_fill(0, torch.tensor(never, device=bias.device), NEVER)
    return found | ({} if scale == 1 else {f"{scope}/scale_outputs": number(scale, torch.float32)})


def linear(scope: str, *parts: Any) -> Variables:
    """Linear layers of the same input as one; where any has a bias, the others get zeros."""
    biases = [bias_of(part) for part in parts]
    if len(parts) == 1:
        found: Variables = {f"{scope}/weight": parts[0].weight}
        return found | ({} if biases[0] is None else {f"{scope}/bias": biases[0]})
    found = {f"{scope}/weight": torch.cat([part.weight.detach() for part in parts])}
    if all(bias is None for bias in biases):
        return found
    whole = [part.weight.new_zeros(len(part.weight)) if b is None else b for part, b in zip(parts, biases, strict=True)]
    return found | {f"{scope}/bias": torch.cat(whole)}


def bias_of(part: Any) -> Tensor | None:
    fixed = getattr(part, "fixed_bias", None)
    return part.bias if fixed is None else fixed[0]


def norm(scope: str, module: Any) -> Variables:
    found = {f"{scope}/gamma": module.weight}
    return found if isinstance(module, nn.RMSNorm) else {**found, f"{scope}/beta": module.bias}


def places(module: Any, n: int | None = None) -> Tensor:
    """A module's vector for each place [n, D], whatever kind it is."""
    table = module.table if hasattr(module, "table") else module.weight[module.offset :]
    return table[:n].detach()


def number(x: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor(x, dtype=dtype)


# --------------------------------------------------------------------------------------------- settings, vocabularies


def settings(ours: Stack) -> dict[str, Any]:
    recipe = ours.recipe
    return {"layer_norm_epsilon": recipe.norm.eps, "multi_query_attention": recipe.kv_heads != recipe.n_heads}


def sides(loaded: Loaded) -> tuple[list[str], list[str]]:
    """The tokens of what is read and of what is written, one for each row of its embedding."""
    model: Any = loaded.model
    pair = loaded.tokenizer if isinstance(loaded.tokenizer, Pair) else Pair(loaded.tokenizer, loaded.tokenizer)
    target = getattr(model, "target", None) or model.embed
    source = getattr(model, "source", None) or model.embed
    last = tokens_of(pair.target, len(target.tokens.weight))
    return (tokens_of(pair.source, len(source.tokens.weight)) if hasattr(source, "tokens") else last), last


def tokens_of(tokenizer: Any, size: int) -> list[str]:
    """The tokens of ids from 0 up; ids that no token has get names that no text spells."""
    found: list[str] = [tokenizer.token(id) for id in range(size)]
    taken = set[str]()
    for id, token in enumerate(found):
        if not token or token in taken:
            found[id] = f"<unused_{id}>"
        taken.add(found[id])
    return found


def special(loaded: Loaded, words: Sequence[str]) -> dict[str, str]:
    """The tokens that CTranslate2 asks for by role; what has none is the end."""
    pair = loaded.tokenizer
    tokenizer: Any = pair.target if isinstance(pair, Pair) else pair
    named = {"eos": tokenizer.eos_id, "unk": tokenizer.unk_id} if not isinstance(tokenizer, Tokenizer) else {}
    roles: dict[str, int] = named or tokenizer.roles
    ends = getattr(loaded.config, "eos_id", None)
    end = ends[0] if isinstance(ends, list) else roles.get("eos", roles.get("sep", 0)) if ends is None else ends
    return {f"{role}_token": words[roles.get(role, end)] for role in ("bos", "unk")} | {"eos_token": words[end]}


def forbidden(loaded: Loaded) -> list[int]:
    """Words that the folder's generation settings never want said."""
    says = loaded.generation
    alone = [row[0] for row in says.get("bad_words_ids") or [] if len(row) == 1]
    return sorted({*alone, *(says.get("suppress_tokens") or [])})
