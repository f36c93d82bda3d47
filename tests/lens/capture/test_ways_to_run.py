"""However a model is run, its bits stay and its calls are told: scripts, autocast, checkpoints, drafts, compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from torch import Tensor, nn

from polyhead.lens.watch import watch
from tests.lens.capture.layers import CausalSelfAttention, fused, two, wanted, written_out, x
from tests.lens.tiny import LENGTHS, NAMES, SOURCE, TARGET, marian

IDS = torch.randint(3, 90, (2, 7), generator=torch.Generator().manual_seed(0))
SIZES: dict[str, Any] = {
    "vocab_size": 99, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40,
    "eos_token_id": None, "pad_token_id": 0, "bos_token_id": 1,
}  # fmt: skip


def llama(layers: int = 2, way: str = "sdpa") -> Any:
    torch.manual_seed(0)
    config: Any = hf.LlamaConfig
    return hf.LlamaForCausalLM(config(**SIZES, num_hidden_layers=layers, attn_implementation=way)).eval()


def gradients(model: nn.Module, run: Callable[[], Tensor]) -> list[Tensor]:
    model.zero_grad()
    loss = run()
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable")  # an older name, which all versions have
@pytest.mark.parametrize("how", ["plain", "checkpoints", "old checkpoints"])
@pytest.mark.parametrize("way", ["sdpa", "eager"])
def test_gradients_within_the_block_keep_their_bits_and_layers_are_told_once(way: str, how: str) -> None:
    """Of silu too, whose backward is one kernel, though PyTorch could make it of others."""
    model = llama(way=way).train()
    model.config.use_cache = False
    if how != "plain":
        model.gradient_checkpointing_enable({"use_reentrant": how == "old checkpoints"})
        model.enable_input_require_grads()

    def run() -> Tensor:
        return model(IDS, labels=IDS).loss

    alone = gradients(model, run)
    with watch(model) as recording:
        watched = gradients(model, run)
    assert len(alone) > 20 and all(torch.equal(a, b) for a, b in zip(alone, watched, strict=True))
    assert recording.names() == ["model.layers.0.self_attn", "model.layers.1.self_attn"]
    assert len(recording) == 2 and not recording.missed


@pytest.mark.parametrize("bent", [F.silu, F.mish, F.gelu, F.hardswish, F.softplus])
def test_gradients_of_what_bends_keep_their_bits(bent: Callable[[Tensor], Tensor]) -> None:
    class Bending(CausalSelfAttention):
        def forward(self, given: Tensor) -> Tensor:
            return super().forward(bent(given @ self.out.weight))

    model = Bending(fused)
    alone = gradients(model, lambda: model(x(long=64)).square().sum())
    with watch(model):
        watched = gradients(model, lambda: model(x(long=64)).square().sum())
    assert all(torch.equal(a, b) for a, b in zip(alone, watched, strict=True))


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("way", ["sdpa", "eager"])
def test_models_of_transformers_under_autocast(way: str, inference: bool) -> None:
    model = llama(way=way)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode(inference):
        alone = model(IDS).logits
        with watch(model) as recording:
            output = model(IDS).logits
        weights = llama(way="eager")(IDS, output_attentions=True).attentions
    assert torch.equal(output, alone) and not recording.missed
    for call, theirs in zip(recording, weights, strict=True):
        assert call.record.request.query.dtype == torch.bfloat16 and call.kind == "self"
        torch.testing.assert_close(call.weights(), theirs.float(), rtol=0, atol=2e-2)


def test_our_own_models_under_autocast() -> None:
    model = marian()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        alone = model(SOURCE, TARGET, LENGTHS)
        with watch(model) as recording:
            output = model(SOURCE, TARGET, LENGTHS)
    assert torch.equal(output, alone) and recording.names() == NAMES and not recording.missed
    assert all(call.record.request.query.dtype == torch.bfloat16 for call in recording)


def test_the_calls_of_a_draft_model_are_its_own() -> None:
    """Assisted generation: a small model writes a few words ahead, and the large one looks at all of them at once."""
    model, draft = llama(2), llama(1)
    how: dict[str, Any] = {"assistant_model": draft, "max_new_tokens": 6, "do_sample": False}
    alone = model.generate(IDS[:1], **how)
    with watch(draft) as ahead, watch(model) as recording:
        output = model.generate(IDS[:1], **how)
    assert torch.equal(output, alone) and not recording.missed and not ahead.missed
    assert ahead.names() == ["model.layers.0.self_attn"] and len(recording.names()) == 2
    seen = [call.lse.shape[2] for call in recording.calls("model.layers.1.self_attn")]
    assert seen[0] >= 7 and max(seen[1:]) > 1  # several words in a step
    for name in recording.names():
        assert len(recording.calls(name)) == len(recording) // 2
    heads = {call.kept.key.data_ptr() for call in recording}  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    assert not heads & {call.kept.key.data_ptr() for call in ahead}  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]


class Plain(nn.Module):
    """A layer that TorchScript can read."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.qkv, self.out, self.fused = nn.Linear(32, 96), nn.Linear(32, 32), fused

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(x.shape[0], x.shape[1], 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = ((q @ k.transpose(-2, -1)) * 0.3535533905932738).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(x.shape[0], x.shape[1], 32))


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # PyTorch's own: it will go
@pytest.mark.parametrize("written", [False, True], ids=["fused", "written out"])
@pytest.mark.parametrize("how", ["script", "trace", "a script within"])
def test_scripts_and_traces_are_seen_below_and_named_by_who_runs_them(how: str, written: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(Plain(not written), Plain(not written)).eval()
    jit: Any = torch.jit
    with torch.no_grad():
        if how == "a script within":
            model: Any = nn.Sequential(plain[0], jit.script(plain[1]))
        else:
            model = jit.script(plain) if how == "script" else jit.trace(plain, x())
        for _ in range(3):  # until it is compiled
            alone = model(x())
        with watch(model) as recording:
            output = model(x())
        with watch(plain) as theirs:
            plain(x())
    assert torch.equal(output, alone) and not recording.missed
    assert recording.names() == (["0", "1"] if how == "a script within" else ["", "#2"])
    for call, same in zip(recording, theirs, strict=True):
        assert call.kind == "self"
        torch.testing.assert_close(call.weights(), same.weights(), rtol=0, atol=2e-6)


# --- compiled --------------------------------------------------------------------------------------------------------


@pytest.fixture
def compiling() -> Any:
    torch._dynamo.reset()  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of what it imports
        yield
    torch._dynamo.reset()  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]


@pytest.mark.usefixtures("compiling")
def test_what_is_compiled_within_the_block_is_compiled_as_without() -> None:
    model = two(fused)
    alone: Any = torch.compile(two(fused))
    inside: Any = torch.compile(model)
    with torch.no_grad():
        output = alone(x())
        with watch(inside) as recording:
            assert torch.equal(inside(x()), output)
        assert torch.equal(inside(x()), output)
    for call, weights in zip(recording, wanted(model, x()), strict=True):
        torch.testing.assert_close(call.weights().double(), weights, rtol=0, atol=2e-6)


@pytest.mark.usefixtures("compiling")
def test_a_softmax_written_out_in_compiled_code_is_seen_where_it_became_a_kernel_and_else_listed() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(Plain(False), CausalSelfAttention(written_out)).eval()
    compiled: Any = torch.compile(plain)
    with torch.no_grad():
        compiled(x())
        with watch(plain) as theirs:
            plain(x())
        with watch(compiled) as recording:
            compiled(x())
        [call] = [call for call in recording if call.name == ""]  # PyTorch made its own kernel of the first
        assert call.kind == "self" and call.route == "fused"
        torch.testing.assert_close(call.weights(), theirs["0"].weights(), rtol=0, atol=2e-6)


@pytest.mark.usefixtures("compiling")
def test_compiled_flex_attention_is_listed() -> None:
    from torch.nn.attention.flex_attention import flex_attention

    flexible: Any = torch.compile(flex_attention)

    def way(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
        return flexible(q, k, v)

    model = nn.Sequential(CausalSelfAttention(way), CausalSelfAttention(fused))
    with torch.no_grad():
        alone = model(x(long=128))
        with watch(model) as recording:
            output = model(x(long=128))
        assert torch.equal(output, alone) and recording.names() == ["1"]
        assert [one.name for one in recording.missed] == ["0"]


# --- weights that come and go --------------------------------------------------------------------------------------


def lays_data(module: nn.Module) -> None:
    """Its weights are fetched when it runs and let go when it has run, as those that lie in another memory are."""
    kept = {name: each.detach().clone() for name, each in module.named_parameters()}

    def fetch(*_: Any) -> None:
        for name, each in module.named_parameters():
            each.data = kept[name].clone()

    def let_go(*_: Any) -> None:
        for each in module.parameters():
            each.data = torch.empty(0)

    module.register_forward_pre_hook(fetch)
    module.register_forward_hook(let_go)
    let_go()


def makes_parameters(module: nn.Module) -> None:
    """The same for each module of its own, by new parameters, within its forward."""
    for each in module.modules():
        kept = {name: one.detach().clone() for name, one in each.named_parameters(recurse=False)}
        if not kept:
            continue

        def forward(*args: Any, each: nn.Module = each, kept: dict[str, Tensor] = kept, **given: Any) -> Any:
            for name, one in kept.items():
                each.register_parameter(name, nn.Parameter(one.clone()))
            gave = type(each).forward(each, *args, **given)
            for name, one in kept.items():
                each.register_parameter(name, nn.Parameter(one.to("meta")))
            return gave

        each.forward = forward
        for name, one in kept.items():
            each.register_parameter(name, nn.Parameter(one.to("meta")))


def shares_memory(module: nn.Module) -> None:
    """The weights of each linear layer are written to one place, where those of the last one lay."""
    place = torch.zeros(40 * 32)
    for each in module.modules():
        if isinstance(each, nn.Linear):
            kept = each.weight.detach().clone()
            each.weight = nn.Parameter(place[: kept.numel()].view(kept.shape))

            def fetch(each: Any, _: Any, kept: Tensor = kept) -> None:
                each.weight.data.copy_(kept)

            each.register_forward_pre_hook(fetch)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("way", ["sdpa", "eager"])
@pytest.mark.parametrize("offload", [lays_data, makes_parameters, shares_memory])
def test_weights_that_are_fetched_when_they_are_needed_are_weights(offload: Any, way: str, inference: bool) -> None:
    """Without them, a last projection that has no bias is a product of data, and norms are those before it."""
    model = llama(way=way)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    with torch.inference_mode(inference):
        with watch(model) as before:
            wanted = model(IDS).logits
        with torch.inference_mode(False), torch.no_grad():
            for layer in model.model.layers:
                offload(layer)
        with watch(model) as recording:
            for _ in range(2):
                output = model(IDS).logits
                assert torch.equal(output, wanted)
    assert len(recording) == 4 and not recording.missed
    for one, other in zip([*before, *before], recording, strict=True):
        assert one.kind == other.kind and other.norms.after
        torch.testing.assert_close(other.norms.values, one.norms.values, rtol=1e-5, atol=0)


def test_a_weight_that_has_learned_is_still_a_weight() -> None:
    model = llama().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model) as recording:
        for _ in range(2):
            model(IDS, labels=IDS, use_cache=False).loss.backward()
            optimizer.step()
    assert len(recording) == 4 and all(call.norms.after for call in recording)
