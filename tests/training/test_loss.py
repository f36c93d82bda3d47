"""Label smoothing against torch's CrossEntropyLoss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import CrossEntropyLoss

from polyhead.training.loss import label_smoothed


def both(x: Tensor, t: Tensor, padding: int, e: float) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(loss, gradient) of ours and of torch's."""
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    loss = label_smoothed(ours, t, padding=padding, smoothing=e)
    peer = CrossEntropyLoss(ignore_index=padding, label_smoothing=e, reduction="sum")(
        theirs.flatten(0, -2), t.flatten()
    )
    (3 * loss).backward()
    (3 * peer).backward()
    assert ours.grad is not None and theirs.grad is not None
    return (loss.detach(), ours.grad), (peer.detach(), theirs.grad)


@pytest.mark.parametrize("padding", [0, -1, -100, 6])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.37])
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (1, 1, 2, 11)])
def test_it_equals_torchs_cross_entropy(shape: tuple[int, ...], smoothing: float, padding: int):
    torch.manual_seed(len(shape))
    x = 4 * torch.randn(*shape, dtype=torch.float64)
    t = torch.randint(0, shape[-1], shape[:-1])
    t[torch.rand(t.shape) < 0.4] = padding if padding < shape[-1] else 0
    (loss, gradient), (peer, peer_gradient) = both(x, t, padding, smoothing)
    torch.testing.assert_close(loss, peer, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, peer_gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("slope", [1.0, 3.0])
def test_a_gradient_that_is_asked_for_twice_adds_up(slope: float):
    torch.manual_seed(2)
    x, t = torch.randn(2, 3, 7, dtype=torch.float64, requires_grad=True), torch.randint(0, 7, (2, 3))
    peer = CrossEntropyLoss(ignore_index=0, label_smoothing=0.1, reduction="sum")(x.flatten(0, 1), t.flatten())
    (wanted,) = torch.autograd.grad(slope * peer, x)
    loss = slope * label_smoothed(x, t, padding=0, smoothing=0.1)
    for _ in range(2):
        loss.backward(retain_graph=True)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2 * wanted, rtol=1e-12, atol=1e-12)


def test_it_is_the_sum_that_szegedy_writes_down():
    torch.manual_seed(1)
    x, e = torch.randn(4, 9, dtype=torch.float64), 0.2
    t = torch.tensor([3, 8, 0, 5])
    q = (1 - e) * torch.eye(9, dtype=torch.float64)[t] + e / 9
    expected = -(q * x.log_softmax(-1)).sum()
    torch.testing.assert_close(label_smoothed(x, t, padding=-1, smoothing=e), expected, rtol=1e-12, atol=0)


def test_float32_and_bfloat16_come_as_close_as_their_digits_allow():
    torch.manual_seed(2)
    x, t = 5 * torch.randn(6, 101), torch.randint(0, 101, (6,))
    (loss, gradient), (peer, peer_gradient) = both(x, t, -1, 0.1)
    torch.testing.assert_close(loss, peer)
    torch.testing.assert_close(gradient, peer_gradient)
    narrow = x.bfloat16().requires_grad_()
    total = label_smoothed(narrow, t, padding=-1, smoothing=0.1)
    assert total.dtype == torch.float32 and narrow.dtype == torch.bfloat16
    total.backward()
    wide = x.bfloat16().float().requires_grad_()
    label_smoothed(wide, t, padding=-1, smoothing=0.1).backward()
    assert narrow.grad is not None and wide.grad is not None
    torch.testing.assert_close(narrow.grad.float(), wide.grad, rtol=1e-2, atol=1e-3)


def test_padding_changes_nothing():
    torch.manual_seed(3)
    x, t = torch.randn(5, 7, dtype=torch.float64), torch.randint(1, 7, (5,))
    padded = torch.cat([x, torch.full((3, 7), torch.nan, dtype=torch.float64)]).requires_grad_()
    loss = label_smoothed(padded, torch.cat([t, torch.zeros(3, dtype=t.dtype)]), padding=0, smoothing=0.1)
    torch.testing.assert_close(loss, label_smoothed(x, t, padding=0, smoothing=0.1), rtol=0, atol=0)
    loss.backward()
    assert padded.grad is not None
    assert padded.grad.isfinite().all() and (padded.grad[5:] == 0).all()


def test_only_padding_is_a_loss_of_zero():
    x = torch.randn(2, 7, requires_grad=True)
    loss = label_smoothed(x, torch.zeros(2, dtype=torch.long), padding=0, smoothing=0.1)
    loss.backward()
    assert loss.item() == 0 and x.grad is not None and not x.grad.any()
