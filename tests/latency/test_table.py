"""Keys of the lookup table."""

import pytest

from predictor.latency.table import signature


def test_a_built_network_finds_what_was_measured_of_a_traced_one():
    """Tracing gives a batch norm two empty outputs more than building one does."""
    torch = pytest.importorskip("torch")
    import predictor
    from predictor.builder import GraphBuilder
    from predictor.kernels.lowering import prepare

    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8))
    b = GraphBuilder("built")
    x = b.conv(b.input((1, 3, 8, 8)), 8, 3, bias=False)
    built = b.finish(b.batch_norm(x))
    both = [prepare(graph, "fp32", "eager").kernels
            for graph in (built, predictor.trace(module.eval(), (1, 3, 8, 8)))]  # fmt: skip
    assert [signature(k) for k in both[0]] == [signature(k) for k in both[1]]
