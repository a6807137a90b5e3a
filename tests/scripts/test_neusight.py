"""The language models against hand formulas; the training of kernel forests on made-up devices."""

import numpy as np
import pytest

from predictor.kernels.features import CLASS_INDEX
from predictor.kernels.fusion import fuse
from scripts import neusight_models as models
from scripts.neusight_data import rules
from scripts.neusight_models import SWITCH, SWITCH_HEAD, language_model
from scripts.neusight_train import usual_wait

DECODERS = {"gpt2_large": models.GPT2_LARGE, "gpt3_xl": models.GPT3_XL,
            "gpt3_27": models.GPT3_27, "opt_13": models.OPT_13,
            "bert_large": models.BERT_LARGE}  # fmt: skip


@pytest.mark.parametrize("name", DECODERS)
def test_macs_by_hand(name):
    """Four square and two wide products a layer, two of attention, and the head."""
    size, batch, length = DECODERS[name], 2, 128
    layer = 4 * size.width**2 + 2 * size.width * size.inner + 2 * length * size.width
    extra = size.width**2 if name == "bert_large" else 0  # a dense layer before the head
    expected = batch * length * (size.layers * layer + size.rows * size.width + extra)
    assert language_model(name, batch, length).macs == expected


@pytest.mark.parametrize(
    ("name", "millions"),
    [("gpt2_large", 774.0), ("opt_13", 1315.8), ("gpt3_27", 2651.6), ("gpt3_xl", 2879.5)],
)
def test_parameters_are_the_published_ones(name, millions):
    """gpt3_xl by hand: 24 layers of 12 x 3072^2 and 13 x 3072, tables, and the last norm."""
    assert language_model(name, 1, 8).params / 1e6 == pytest.approx(millions, abs=0.06)


def test_switch_by_hand():
    """Dense layers see all tokens, experts 64 a sequence each, and attention stands thrice."""
    length, inner = 512, SWITCH.heads * SWITCH_HEAD
    attention = 4 * SWITCH.width * inner * length + 2 * length**2 * inner
    dense, expert = (2 * SWITCH.width * SWITCH.inner * n for n in (length, 4 * 64))
    router = SWITCH.width * 4 * length
    stack = SWITCH.layers // 2 * (dense + expert + router)
    expected = 3 * SWITCH.layers * attention + 2 * stack + SWITCH.rows * SWITCH.width * length
    assert language_model("switchxl4", 1, length).macs == expected


def test_attention_stays_in_its_operators():
    kernels = fuse(language_model("gpt2_large", 2, 64), rules())
    kinds = [kernel.ops[0].kind for kernel in kernels]
    assert kinds.count("matmul") == 72
    assert kinds.count("softmax") == 36
    assert all(len(kernel.ops) == 1 for kernel in kernels)


def test_the_usual_wait_has_the_least_percentage_error():
    waits = [25e-6, 25.5e-6, 32e-6, 41e-6]
    usual = usual_wait(waits)
    error = [np.mean(np.abs(w / np.array(waits) - 1)) for w in waits]
    assert usual == waits[int(np.argmin(error))]


def test_classes_have_columns_and_trees():
    from predictor.latency.boosted import COLUMNS
    from scripts.neusight_train import SEEN, TREES

    assert set(SEEN) == set(TREES) <= set(CLASS_INDEX)
    assert all(set(names) <= set(COLUMNS) for names in SEEN.values())
