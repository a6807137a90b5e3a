"""A short training on the digits."""

import numpy as np
import pytest
from accuracy_nets import Fixed, tiny

torch = pytest.importorskip("torch", reason="the networks are torch modules")
pytest.importorskip("sklearn", reason="the digits come with scikit-learn")

from torch import nn  # noqa: E402

from predictor.search.accuracy import find  # noqa: E402
from predictor.search.accuracy.digits import EPOCHS, Digits  # noqa: E402
from predictor.search.candidate import Candidate, Pruned, SignalError  # noqa: E402


def test_a_tiny_network_learns_and_does_so_alike_twice():
    reports = []

    def prune(step, accuracy):
        reports.append((step, accuracy))
        return False

    signal = find("digits")
    accuracy = signal.score(tiny(prune, width=16))
    assert accuracy > 50  # chance is 10
    assert [step for step, _ in reports] == list(range(1, EPOCHS + 1))
    assert reports[-1][1] == accuracy
    assert find("digits").score(tiny(width=16)) == accuracy
    assert find("digits", seed=1).score(tiny(width=16)) != accuracy


def test_the_search_may_give_up_after_an_epoch():
    seen = []

    def prune(step, accuracy):
        seen.append(step)
        return step == 2

    with pytest.raises(Pruned, match="step 2"):
        find("digits", epochs=5).score(tiny(prune))
    assert seen == [1, 2]


def test_large_networks_train_small_where_they_can():
    seen = []

    class Watched(nn.Module):
        def __init__(self, pooled):
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(4) if pooled else nn.AvgPool2d(12)
            self.classifier = nn.Linear(3 * 16, 10)

        def forward(self, x):
            seen.append(x.shape[-1])
            return self.classifier(self.pool(x).flatten(1))

    x, y = np.random.default_rng(0).random((40, 1, 8, 8)), np.arange(40) % 10
    for pooled, side in ((True, 12), (False, 48)):
        signal = Digits((x, y), epochs=1)
        candidate = Candidate(Fixed(lambda p=pooled: Watched(p), (3, 48, 48)), {})
        seen.clear()
        assert 0 <= signal.score(candidate) <= 100
        assert seen[-1] == side


def test_too_few_outputs_and_nothing_to_train():
    with pytest.raises(SignalError, match="4 outputs, but digits has 10 classes"):
        Digits().score(Candidate(Fixed(lambda: Flat(4), (1, 8, 8)), {}))

    class Still(nn.Module):
        def forward(self, x):
            return x.flatten(1)

    with pytest.raises(SignalError, match="no parameters to train"):
        Digits().score(Candidate(Fixed(Still, (1, 8, 8)), {}))


class Flat(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Flatten(), nn.Linear(64, classes))
