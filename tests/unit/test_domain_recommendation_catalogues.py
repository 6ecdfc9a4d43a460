"""Entropy and ranks over catalogues: in chunks, by samples, without the seen items."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from jobs.domains.recommendation import networks
from jobs.domains.recommendation.entropy import chunked_entropy
from jobs.domains.recommendation.networks import leave_out, rank
from jobs.domains.recommendation.ranking import metrics_of

torch.set_num_threads(1)


def test_entropy_in_chunks_is_that_of_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.domains.recommendation.entropy.MOST_LOGITS", 50)
    torch.manual_seed(0)
    parts = [torch.randn(23, 8), torch.randn(20, 8), torch.randn(20)]
    chunked, plain = ([p.clone().requires_grad_() for p in parts] for _ in range(2))
    targets = torch.randint(20, (23,))
    loss = chunked_entropy(*chunked, targets)
    expected = torch.nn.functional.cross_entropy(plain[0] @ plain[1].T + plain[2], targets)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    (loss * 3).backward()
    (expected * 3).backward()
    for one, other in zip(chunked, plain, strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-6)  # type: ignore[arg-type]
    empty = chunked_entropy(chunked[0][:0], *chunked[1:], targets[:0])
    empty.backward()
    assert empty.item() == 0


def test_samples_teach_what_all_items_would() -> None:
    """Of states that say nothing, the network learns how frequent each item is."""
    torch.manual_seed(0)
    shares = torch.arange(1.0, 21) ** 2 / (torch.arange(1.0, 21) ** 2).sum()
    shape = networks.Shape("sasrec", 20, 4, 4, 0.0, num_trained=20, samples=5)
    network = networks.SASRec(shape, (shares * 1e6).long().numpy())
    optimizer = torch.optim.Adam(network.offsets.parameters(), lr=0.1)
    for _ in range(300):
        targets = torch.multinomial(shares, 64, replacement=True) + 1
        optimizer.zero_grad()
        network._entropy(torch.zeros(64, 4), targets).backward()
        optimizer.step()
    learned = network.offsets.weight[1:, 0].softmax(0).detach()
    assert (learned - shares).abs().max() < 0.04


def test_seen_items_are_never_ranked() -> None:
    scores = torch.tensor([[5.0, 4.0, 3.0, 2.0]])
    out = leave_out(scores, torch.tensor([[1, 0, 9, 3]]))
    assert out.tolist() == [[-np.inf, 4.0, -np.inf, 2.0]]
    states, vectors = torch.ones(1, 1), scores.T.clone()
    found = rank(states, vectors, torch.zeros(4), torch.tensor([4]), torch.tensor([[1, 3]]))
    assert found.rank.tolist() == [1]
    assert found.top[0, :4].tolist() == [2, 4, 0, 0]
    missed = rank(states, vectors, torch.zeros(4), torch.tensor([7]), torch.tensor([[1, 3]]))
    assert missed.rank.tolist() == [4]
    assert torch.isnan(missed.nats).all()


def test_a_large_catalogue_is_sampled() -> None:
    network = SimpleNamespace(type="sasrec", width=8, context=4, dropout=0.0, layers=1, heads=1)
    network.samples = None
    assert networks.shape_of(network, 10**6, 10**6, 0).samples == networks.NUM_SAMPLES
    assert networks.shape_of(network, 1000, 1000, 0).samples is None


def test_metrics_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing to score"):
        metrics_of({"rank": np.zeros(0, np.int64)}, 5)
