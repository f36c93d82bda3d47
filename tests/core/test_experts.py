"""Experts: routing, room and sums against a loop over words, losses against `transformers`, and who sees them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import MixtralConfig, SwitchTransformersConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func as mixtral_loss
from transformers.models.switch_transformers.modeling_switch_transformers import (
    SwitchTransformersTop1Router,
    router_z_loss_func,
)
from transformers.models.switch_transformers.modeling_switch_transformers import (
    load_balancing_loss_func as switch_loss,
)

from polyhead.core import Recipe, Run, Stack
from polyhead.core.experts import Mixture, Router, Routes, balance_loss, routing, z_loss
from polyhead.core.init import initialise
from polyhead.core.packed import Int8Linear, PackedLinear, packable, packed, why_not_int8
from polyhead.core.recipe import Experts
from polyhead.errors import ArgumentError
from polyhead.lens.watch import watch
from polyhead.operator import Cache, Lengths

SMALL = Recipe(n_layers=2, d_model=12, n_heads=3, d_ff=10, activation="relu")
KINDS = {
    "one": Experts(n=5),
    "one, with room for two": Experts(n=3, capacity=2, bias=True, exact=True),
    "two, renormalised": Experts(n=4, per_token=2, renormalise=True),
    "three, with room for four": Experts(n=4, per_token=3, renormalise=True, capacity=4),
    "all": Experts(n=3, per_token=3),
}
every_kind = pytest.mark.parametrize("how", KINDS.values(), ids=KINDS)


def mixture(how: Experts, recipe: Recipe = SMALL, seed: int = 0) -> Mixture:
    torch.manual_seed(seed)
    made = Mixture(recipe, how).double().eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


def by_hand(made: Mixture, x: Tensor) -> tuple[Tensor, list[list[list[int]]]]:
    """One word after the other, in the order of the text; which experts each went to, -1 for a full one."""
    how, run = made.how, Run()
    out, went = torch.zeros_like(x), [[[] for _ in range(x.shape[1])] for _ in x]
    for b, text in enumerate(x):
        taken = [0] * how.n
        for t, word in enumerate(text):
            scores = made.router.weight @ word + (0 if made.router.bias is None else made.router.bias)
            shares = scores.exp() / scores.exp().sum()
            best = sorted(range(how.n), key=lambda e: -float(shares[e].detach()))[: how.per_token]
            total = sum(shares[e] for e in best) if how.renormalise else 1.0
            for e in best:
                taken[e] += 1
                full = how.capacity is not None and taken[e] > how.capacity
                went[b][t].append(-1 if full else e)
                if not full:
                    expert: Any = made.experts[e]
                    out[b, t] = out[b, t] + shares[e] / total * expert(word[None], run)[0]
    return out, went


@every_kind
@pytest.mark.parametrize("gated", [False, True])
def test_a_mixture_is_the_loop_over_words_with_its_gradients(how: Experts, gated: bool) -> None:
    made = mixture(how, replace(SMALL, gated=gated, bias=False))
    x = torch.randn(3, 7, 12, dtype=torch.float64, requires_grad=True)
    with routing() as routes:
        found = made(x, Run())
    expected, went = by_hand(made, x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    [route] = routes
    assert route.at is made and route.chosen.tolist() == went
    assert (how.capacity is not None) == bool((route.chosen < 0).any())
    inputs = [x, *made.parameters()]
    slope = torch.randn_like(found)
    ours = torch.autograd.grad(found, inputs, slope, allow_unused=True, materialize_grads=True)
    theirs = torch.autograd.grad(expected, inputs, slope, allow_unused=True, materialize_grads=True)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@every_kind
def test_an_expert_reads_its_own_words_and_no_others(how: Experts) -> None:
    made, x = mixture(how), torch.randn(2, 9, 12, dtype=torch.float64)
    read: dict[nn.Module, int] = dict.fromkeys(made.experts, 0)

    def count(expert: nn.Module, given: Any) -> None:
        read[expert] += len(given[0])

    for expert in made.experts:
        expert.register_forward_pre_hook(count)
    with routing() as routes:
        made(x, Run())
    chosen = routes.routes[0].chosen
    assert [*read.values()] == [int((chosen == e).sum()) for e in range(how.n)]


def test_a_dropped_word_goes_on_unchanged() -> None:
    """With room for one word, every word of the text but the first of each expert is x itself after the block."""
    made = mixture(Experts(n=2, capacity=1))
    x = torch.randn(1, 8, 12, dtype=torch.float64)
    with routing() as routes:
        found = made(x, Run())
    dropped = routes.routes[0].chosen[0, :, 0] < 0
    assert dropped.sum() >= 6 and not found[0, dropped].any() and found[0, ~dropped].all(-1).all()


def test_room_is_counted_in_each_text_alone() -> None:
    made, x = mixture(Experts(n=2, capacity=2)), torch.randn(4, 9, 12, dtype=torch.float64)
    torch.testing.assert_close(made(x, Run()), torch.cat([made(row[None], Run()) for row in x]))


def test_padding_on_the_right_takes_nobodys_room() -> None:
    torch.manual_seed(0)
    stack = Stack(replace(SMALL, experts=Experts(n=3, capacity=2))).double().eval()
    x, lengths = torch.randn(2, 7, 12, dtype=torch.float64), torch.tensor([7, 4])
    padded = stack(x, Run(mask=Lengths(lengths)))
    torch.testing.assert_close(padded[1:, :4], stack(x[1:, :4], Run()))


def test_a_cache_equals_no_cache_where_there_is_room_for_all() -> None:
    torch.manual_seed(0)
    stack = Stack(replace(SMALL, causal=True, experts=KINDS["two, renormalised"])).double().eval()
    x, cache = torch.randn(2, 8, 12, dtype=torch.float64), Cache()
    parts = [stack(part, Run(cache=cache)) for part in x.split(3, 1)]
    torch.testing.assert_close(torch.cat(parts, 1), stack(x, Run()))


def test_experts_stand_in_the_layers_that_have_some() -> None:
    stack: Any = Stack(replace(SMALL, n_layers=3, experts=(None, Experts(n=2), None)))
    assert [isinstance(block.mlp, Mixture) for block in stack.blocks] == [False, True, False]


@pytest.mark.parametrize("cast", [torch.bfloat16, None], ids=["bfloat16", "autocast"])
def test_an_exact_router_scores_in_float32(cast: torch.dtype | None) -> None:
    made = mixture(Experts(n=4, bias=True, exact=True)).float()
    x = torch.randn(2, 5, 12)
    if cast is not None:
        made, x = made.to(cast), x.to(cast)
    with routing() as routes, torch.autocast("cpu", torch.bfloat16, enabled=cast is None):
        found = made(x, Run())
    scores = x.double() @ made.router.weight.double().T + made.router.bias.double()  # pyright: ignore[reportOptionalMemberAccess]
    assert routes.routes[0].scores.dtype == torch.float32
    torch.testing.assert_close(routes.routes[0].scores.double(), scores, rtol=1e-6, atol=1e-6)
    assert found.dtype == x.dtype


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parity
def test_a_layer_learns_as_mixtrals_does_with_its_noise() -> None:
    how = Experts(n=4, per_token=2, renormalise=True, jitter=0.4, jitter_all=True)
    made = mixture(how, replace(SMALL, gated=True, bias=False)).float().train()
    theirs: Any = MixtralSparseMoeBlock(
        MixtralConfig(
            hidden_size=12, intermediate_size=10, num_local_experts=4, num_experts_per_tok=2, hidden_act="relu",
            router_jitter_noise=0.4,
        )
    ).train()  # fmt: skip
    theirs.gate.weight.data = made.router.weight.data
    experts: Any = made.experts
    for e, expert in enumerate(experts):
        theirs.experts.gate_up_proj.data[e] = torch.cat((expert.gate.weight, expert.up.weight)).data
        theirs.experts.down_proj.data[e] = expert.down.weight.data
    x = torch.randn(2, 6, 12)
    ours_read, theirs_read = x.clone().requires_grad_(), x.clone().requires_grad_()
    torch.manual_seed(3)
    found = made(ours_read, Run())
    torch.manual_seed(3)
    expected = theirs(theirs_read * 1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found, made.eval()(x, Run()))  # there was noise
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours_read.grad, theirs_read.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_noise_of_switch_is_its_routers_alone(dtype: torch.dtype) -> None:
    """Theirs is drawn alike. In float32 it writes into what the experts read too; in bfloat16, as in the paper, not."""
    made = mixture(Experts(n=3, exact=True, jitter=0.4)).to(dtype).train()
    config = SwitchTransformersConfig(d_model=12, num_experts=3, expert_capacity=64, router_jitter_noise=0.4)
    theirs: Any = SwitchTransformersTop1Router(config).train()
    theirs.classifier.weight.data = made.router.weight.data
    x = torch.randn(2, 6, 12, dtype=dtype)
    torch.manual_seed(3)
    chosen, _, scores = theirs(x.clone())
    torch.manual_seed(3)
    with routing() as routes:
        found = made(x, Run())
    [route] = routes
    torch.testing.assert_close(route.scores, scores, rtol=1e-6, atol=1e-6)
    assert torch.equal(route.chosen[..., 0], chosen.argmax(-1))
    weights = scores.softmax(-1).gather(-1, route.chosen)
    experts: Any = made.experts
    of_x = torch.stack([expert(x, Run()) for expert in experts], -1)  # [B, T, D, E]
    alone = of_x.gather(-1, route.chosen[:, :, None].expand(-1, -1, 12, -1))[..., 0]
    torch.testing.assert_close(found, (alone * weights).to(dtype))


@pytest.mark.parity
@pytest.mark.parametrize("k", [1, 2])
def test_the_balance_loss_is_that_of_mixtral_in_transformers(k: int) -> None:
    """Theirs takes the words of all layers together, and leaves padding out."""
    scores = torch.randn(3, 2, 7, 5, generator=torch.Generator().manual_seed(k)) * 3  # [layers, B, T, E]
    mask = torch.arange(7) < torch.tensor([7, 4])[:, None]
    layers: Any = tuple(layer.flatten(0, 1) for layer in scores)
    theirs = mixtral_loss(layers, 5, k), mixtral_loss(layers, 5, k, mask.long())
    ours = (
        balance_loss(scores.flatten(0, 2), k),
        balance_loss(scores.flatten(0, 2), k, real=mask.expand(3, 2, 7).flatten()),
    )
    torch.testing.assert_close(torch.stack(ours), torch.stack([torch.as_tensor(x) for x in theirs]))


@pytest.mark.parity
def test_the_losses_are_those_of_switch_in_transformers() -> None:
    """Theirs takes the layers of each text together."""
    scores = torch.randn(2, 14, 5, generator=torch.Generator().manual_seed(0)) * 3  # [B, layers * T, E]
    theirs = switch_loss(scores.softmax(-1), scores.argmax(-1)), router_z_loss_func(scores)
    torch.testing.assert_close((balance_loss(scores), z_loss(scores)), theirs)
    real = torch.arange(14) < torch.tensor([14, 6])[:, None]
    kept = scores[real]
    torch.testing.assert_close(z_loss(scores, real=real), router_z_loss_func(kept[None]))


def test_words_that_are_spread_evenly_lose_as_little_as_can_be() -> None:
    even = torch.eye(4).repeat(3, 1) * 50  # each expert takes a quarter, and is sure of it
    assert balance_loss(even).item() == pytest.approx(1)
    assert balance_loss(torch.full((9, 4), 2.0), 2).item() == pytest.approx(2)
    crowded = torch.zeros(12, 4)
    crowded[:, 0] = 50
    assert balance_loss(crowded).item() == pytest.approx(4)


def test_learning_with_the_balance_loss_sends_words_to_all_experts() -> None:
    torch.manual_seed(0)
    stack: Any = Stack(replace(SMALL, experts=Experts(n=4)))
    initialise(stack)
    x, pull = torch.randn(4, 16, 12), torch.randn(12)
    x = x + pull  # what words have in common, along which one expert is ahead of all
    with torch.no_grad():
        for block in stack.blocks:
            block.mlp.router.weight.normal_(std=0.05)
            block.mlp.router.weight[0] += pull / 3

    def shares(steps: int) -> list[float]:
        optimizer = torch.optim.SGD([block.mlp.router.weight for block in stack.blocks], lr=0.3)
        for _ in range(steps):
            with routing() as routes:
                stack(x, Run())
            optimizer.zero_grad()
            torch.stack([balance_loss(route.scores) for route in routes]).sum().backward()
            optimizer.step()
        with routing() as routes, torch.no_grad():
            stack(x, Run())
        return [float(torch.bincount(route.chosen.flatten(), minlength=4).max()) / 64 for route in routes]

    before, after = shares(0), shares(200)
    assert min(before) > 0.8 and max(after) < 0.5


def test_routers_begin_as_matrices_do() -> None:
    stack = Stack(replace(SMALL, d_model=120, experts=Experts(n=40, bias=True)))
    for parameter in stack.parameters():
        nn.init.constant_(parameter, 7.0)
    initialise(stack)
    for router in (module for module in stack.modules() if isinstance(module, Router)):
        assert float(router.weight.detach().std()) == pytest.approx((2 / 160) ** 0.5, rel=0.1)
        assert router.bias is not None and not router.bias.any()


# --- who looks on -----------------------------------------------------------------------------------------------------


def test_watching_sees_routes_beside_attention_and_changes_no_bit() -> None:
    torch.manual_seed(0)
    stack = Stack(replace(SMALL, causal=True, experts=(None, Experts(n=3, per_token=2)))).eval()
    x = torch.randn(2, 6, 12)
    with torch.no_grad():
        blind = stack(x, Run())
        with watch(stack) as recording, routing() as routes:
            assert torch.equal(stack(x, Run()), blind)
    assert recording.names() == ["blocks.0.attn", "blocks.1.attn"]
    [route] = routes
    assert (route.scores.shape, route.chosen.shape) == ((2, 6, 3), (2, 6, 2))


def test_who_edits_a_score_sends_words_elsewhere_also_from_behind_another() -> None:
    made, x = mixture(Experts(n=3)), torch.randn(1, 5, 12, dtype=torch.float64)

    class Pushing(Routes):
        def see(self, at: nn.Module, place: str, x: Tensor) -> Tensor:
            pushed = x + 100 * torch.tensor([0.0, 0.0, 1.0]) if place == "router" else x
            return super().see(at, place, pushed)

    last: Any = made.experts[2]
    for routes in (Pushing(), Routes(outer=Pushing())):
        torch.testing.assert_close(made(x, Run(observer=routes)), last(x, Run()))
        assert routes.routes[0].chosen.tolist() == [[[2]] * 5]


PACKED = pytest.mark.skipif(not packable(nn.Linear(2, 2)), reason="this PyTorch has no packed products")


@PACKED
def test_experts_are_packed_in_the_models_product_and_their_router_in_floating_point() -> None:
    stack: Any = Stack(replace(SMALL, experts=Experts(n=3, per_token=2, exact=True))).eval()
    twin: Any = packed(stack)
    mlp = twin.blocks[1].mlp
    assert all(isinstance(expert.up, PackedLinear) and expert.up.after == "relu" for expert in mlp.experts)
    assert mlp.router.weight is stack.blocks[1].mlp.router.weight
    x = torch.randn(2, 5, 12)
    with torch.no_grad():
        torch.testing.assert_close(twin(x, Run()), stack(x, Run()))
    if why_not_int8(stack) is None:
        coarse: Any = packed(stack, Int8Linear)
        scores, wanted = (each.blocks[1].mlp.router(x) for each in (coarse, stack))
        torch.testing.assert_close(scores, wanted)


@PACKED
@pytest.mark.parametrize("n", [2, 8, 60])
@pytest.mark.parametrize(("exact", "dtype"), [(False, torch.float32), (True, torch.float32), (True, torch.bfloat16)])
def test_a_packed_router_sends_a_word_where_it_goes_beside_others(n: int, exact: bool, dtype: torch.dtype) -> None:
    """Near a tie rounding decides, and would by the number of rows."""
    how = Experts(n=n, per_token=2, bias=True, exact=exact)
    made: Any = packed(Mixture(replace(SMALL, d_model=512, n_heads=4), how).to(dtype))
    x = torch.randn(1, 40, 512, dtype=dtype)
    with torch.inference_mode():
        scores, whole = made.router(x), made(x, Run())
        for rows in (1, 2, 3, 5, 33):
            assert torch.equal(made.router(x[:, :rows]), scores[:, :rows])
            assert torch.equal(made(x[:, :rows], Run()), whole[:, :rows])
    assert scores.dtype == torch.float32


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ({"n": 0}, "the number of experts must be at least 1, found 0"),
        ({"n": 4, "per_token": 5}, "experts for each token must be from 1 to all 4, found 5"),
        ({"n": 4, "per_token": 0}, "experts for each token must be from 1 to all 4, found 0"),
        ({"n": 4, "capacity": 0}, "the capacity of an expert must be at least 1 token, found 0"),
        ({"n": 4, "jitter": 1.5}, "the router's jitter must be from 0 to 1, found 1.5"),
    ],
)
def test_what_cannot_be_is_refused(what: dict[str, Any], told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        Experts(**what)


def test_a_recipe_says_of_each_layer_whether_it_has_experts() -> None:
    with pytest.raises(ArgumentError, match=r"one or None for each of the 2 layers; found 3"):
        replace(SMALL, experts=(None, Experts(n=2), None))
