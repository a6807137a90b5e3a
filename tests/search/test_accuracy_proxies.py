"""Zero-cost proxies: by hand on small networks, the same twice, and floors for dead networks."""

import math

import numpy as np
import pytest
from accuracy_nets import Fixed, Tiny, tiny

torch = pytest.importorskip("torch", reason="the networks are torch modules")
pytest.importorskip("sklearn", reason="the digits come with scikit-learn")

from torch import nn  # noqa: E402

from predictor.errors import ConfigError  # noqa: E402
from predictor.search.accuracy.gradnorm import GradNorm  # noqa: E402
from predictor.search.accuracy.images import batches, images_of, input_shape, shaped  # noqa: E402
from predictor.search.accuracy.jacov import OFFSET, Jacov, spread_score  # noqa: E402
from predictor.search.accuracy.naswot import Naswot, hamming_kernel  # noqa: E402
from predictor.search.accuracy.proxies import logits_of, seeded  # noqa: E402
from predictor.search.accuracy.size import Flops, Params  # noqa: E402
from predictor.search.accuracy.synflow import HIGHEST, LOWEST, SynFlow  # noqa: E402
from predictor.search.accuracy.zico import ZiCo  # noqa: E402
from predictor.search.candidate import Candidate, SignalError  # noqa: E402

ALL = (Naswot, SynFlow, ZiCo, GradNorm, Jacov)
PAIR = (np.array([[1.0, 2.0], [-1.0, 0.5], [3.0, -2.0], [0.5, 0.5]]), np.array([0, 1, 1, 0]))


def linear(*weights):
    """Linear layers with these weights and no biases."""
    layers = []
    for weight in weights:
        value = torch.tensor(weight, dtype=torch.float32)
        layer = nn.Linear(value.shape[1], value.shape[0], bias=False)
        layer.weight = nn.Parameter(value)
        layers.append(layer)
    return nn.Sequential(*layers)


def fixed(make, shape=(2,)):
    return Candidate(Fixed(make, shape), {})


def test_synflow_of_two_linear_layers_by_hand():
    # R = 1^T |B| |A| 1 = (3 + 1) * (1 + 2) + (2 + 0.5) * (4 + 3); each layer's sum of
    # theta dR/dtheta is R, as R is linear in it.
    a, b = [[1.0, -2.0], [-4.0, 3.0]], [[-3.0, 2.0], [1.0, 0.5]]
    through = 4 * 3 + 2.5 * 7
    score = SynFlow(PAIR).score(fixed(lambda: linear(a, b)))
    assert score == pytest.approx(math.log(2 * through), rel=1e-12)


def test_synflow_passes_normalisation_by_and_stays_within_double_precision():
    a = [[1.0, -2.0], [-4.0, 3.0]]
    plain = SynFlow(PAIR).score(fixed(lambda: linear(a, a)))
    normed = SynFlow(PAIR).score(
        fixed(lambda: nn.Sequential(linear(a), nn.BatchNorm1d(2), linear(a)))
    )
    assert normed == pytest.approx(plain, rel=1e-12)
    huge = [[1e38, 1e38], [1e38, -1e38]]
    assert SynFlow(PAIR).score(fixed(lambda: linear(*[huge] * 12))) == HIGHEST


def test_the_naswot_kernel_by_hand():
    class Two(nn.Module):
        def forward(self, x):
            return nn.functional.relu(x) + x.relu() + nn.ReLU()(x[:, :1])

    x = torch.tensor([[1.0, 2.0], [1.0, -2.0], [-1.0, -2.0]])
    # codes 11 11 1, 10 10 1, 00 00 0: agreements of each pair out of five
    assert hamming_kernel(Two(), x).tolist() == [[5, 3, 0], [3, 5, 2], [0, 2, 5]]
    assert hamming_kernel(nn.Identity(), x) is None
    assert hamming_kernel(nn.GELU(), x).tolist() == [[2, 1, 0], [1, 2, 1], [0, 1, 2]]


def test_naswot_is_the_log_determinant():
    x = np.array([[1.0, 2.0], [1.0, -2.0], [-1.0, -2.0]])  # normalised: signs as below
    signs = (x - x.mean(0)) > 0
    kernel = (signs[:, None] == signs[None]).sum(2)
    assert np.linalg.matrix_rank(kernel) == 3
    score = Naswot((x, np.array([0, 1, 0]))).score(fixed(nn.ReLU))
    assert score == pytest.approx(math.log(np.linalg.det(kernel)), rel=1e-9)


def test_the_gradient_norm_by_hand():
    # softmax(x) - onehot(y), averaged over the batch, times x^T
    x = ((PAIR[0] - PAIR[0].mean(0)) / PAIR[0].std(0)).astype(np.float32)
    weight = np.array([[0.5, -1.0], [2.0, 0.25]])
    order = np.random.default_rng(0).permutation(4)
    logits = x @ weight.T
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gradient = (share - np.eye(2)[PAIR[1]]).T @ x / len(order)
    score = GradNorm(PAIR).score(fixed(lambda: linear(weight.tolist())))
    assert score == pytest.approx(np.linalg.norm(gradient), rel=1e-5)


def test_zico_by_hand():
    # two batches of one layer: (|g1| + |g2|) / 2 over their deviation |g1 - g2| / 2
    weight = [[0.5, -1.0], [2.0, 0.25]]
    data = batches(images_of(PAIR), (2,), 2, 2, 0)
    found = []
    for x, y in data:
        layer = linear(weight)
        nn.functional.cross_entropy(layer(x), y).backward()
        found.append(layer[0].weight.grad.numpy().astype(float))
    one, two = found
    expected = math.log((((abs(one) + abs(two)) / 2) / (abs(one - two) / 2)).sum())
    score = ZiCo(PAIR, batch_size=2).score(fixed(lambda: linear(weight)))
    assert score == pytest.approx(expected, rel=1e-4)


def test_the_jacobian_covariance_by_hand():
    a, b = [1.0, 2.0, 4.0], [2.0, 1.0, 3.0]
    r = np.corrcoef(a, b)[0, 1]  # eigenvalues 1 + r and 1 - r
    expected = -sum(math.log(e + OFFSET) + 1 / (e + OFFSET) for e in (1 + r, 1 - r))
    assert spread_score(torch.tensor([a, b])) == pytest.approx(expected, rel=1e-9)
    assert math.isnan(spread_score(torch.ones(2, 3)))


def test_size_is_the_graphs():
    candidate = tiny(width=8)
    assert Params().score(candidate) == candidate.graph.params
    assert Flops().score(candidate) == candidate.graph.flops == 2 * candidate.graph.macs


@pytest.mark.parametrize("kind", ALL)
def test_the_same_twice_and_another_for_another_seed(kind):
    before = torch.random.get_rng_state()
    scores = [kind(seed=seed).score(tiny(width=8)) for seed in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]
    assert torch.equal(before, torch.random.get_rng_state())
    both = kind(seeds=2).score(tiny(width=8))
    alone = kind().score(tiny(width=8))
    assert both != alone or kind is Naswot


@pytest.mark.parametrize("kind", ALL)
def test_a_network_that_ignores_its_input_scores_lowest(kind):
    signal = kind()
    dead, live = signal.score(tiny(act="dead")), signal.score(tiny(act="relu"))
    assert dead == signal.floor < live
    assert math.isfinite(dead)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("data", ["digits", "noise"])
def test_data_by_name(kind, data):
    assert math.isfinite(kind(data, batch_size=4).score(tiny(act="gelu")))


def test_weights_that_are_not_finite_score_lowest():
    broken = [[math.nan, 1.0], [1.0, 1.0]]
    for kind in (SynFlow, GradNorm, Jacov):
        signal = kind(PAIR)
        assert signal.score(fixed(lambda: linear(broken))) == signal.floor
    assert math.log(5e-324) == LOWEST


def test_what_cannot_be_run_names_the_candidate():
    with pytest.raises(SignalError, match=r"fixed: naswot could not run it: RuntimeError"):
        Naswot().score(Candidate(BadSpace(), {}))
    with pytest.raises(SignalError, match="one input of floats"):
        Naswot().score(Candidate(Tokens(), {}))
    with pytest.raises(ConfigError, match="2 and 1 at least"):
        Naswot(batch_size=1)


class BadSpace(Fixed):
    def __init__(self):
        super().__init__(lambda: nn.Linear(2, 2), (2,))

    def module(self, values):
        return nn.Linear(7, 2)


class Tokens(Fixed):
    def __init__(self):
        super().__init__(lambda: nn.Embedding(5, 2), (3,))

    def graph(self, values):
        from predictor.frontends.torch_module import trace

        return trace(nn.Embedding(5, 2), torch.zeros((1, 3), dtype=torch.int64))


def test_images_fit_the_network():
    images = images_of(None)
    assert (len(images), images.name) == (1797, "digits")
    assert abs(float(images.inputs.mean())) < 1e-5
    x = shaped(images, np.arange(3), (3, 32, 20), 0)
    assert x.shape == (3, 3, 32, 20)
    assert torch.equal(x[:, 0], x[:, 2])
    made = batches(images, (3, 8, 8), 16, 2, 0)
    assert not torch.equal(made[0][0], made[1][0])
    assert shaped(images, np.arange(3), (5,), 0).shape == (3, 5)
    assert input_shape(tiny()) == (3, 8, 8)


def test_data_from_a_file_and_a_function(tmp_path):
    x, y = np.random.default_rng(0).random((20, 3, 8, 8)), np.arange(20) % 4
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    from_file = Naswot(str(tmp_path / "mine.npz"), batch_size=8).score(tiny())
    assert from_file == Naswot(lambda: (x, y), batch_size=8).score(tiny())
    assert from_file != Naswot(batch_size=8).score(tiny())


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros((3, 2))}, "no array y"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(4)}, r"x of shape \(3, 2\)"),
        ({"x": np.zeros((3, 2)), "y": np.array([0, 0.5, 1])}, "class numbers"),
        ({"x": np.full((3, 2), np.nan), "y": np.zeros(3)}, "finite numbers"),
    ],
)
def test_data_that_does_not_fit_is_named(tmp_path, arrays, said):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(ConfigError, match=said):
        images_of(tmp_path / "mine.npz")


def test_missing_and_damaged_data(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'digits'"):
        images_of("digit")
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    with pytest.raises(ConfigError, match=r"bad\.npz: no readable"):
        images_of(tmp_path / "bad.npz")
    np.savez(tmp_path / "o.npz", x=np.array([object()] * 3), y=np.zeros(3))
    with pytest.raises(ConfigError, match=r"o\.npz"):  # nothing is unpickled
        images_of(tmp_path / "o.npz")


def test_answers_of_other_forms():
    maps = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert torch.equal(logits_of({"out": (maps,)}), maps.flatten(2).mean(2))
    with pytest.raises(TypeError, match="returned str"):
        logits_of("no")
    with seeded(3):
        one = torch.rand(2)
    with seeded(3):
        assert torch.equal(one, torch.rand(2))


def test_the_space_is_a_space():
    assert Tiny().size == 24
