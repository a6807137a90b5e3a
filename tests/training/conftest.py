"""One synthetic machine for all training tests: measured once, evaluated once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

pytest.importorskip("lightgbm", reason="training needs LightGBM")
pytest.importorskip("scipy", reason="training needs SciPy")
pytest.importorskip("sklearn", reason="a baseline needs scikit-learn")

from synthetic import measurements


@pytest.fixture(scope="session")
def measured():
    return measurements()


@pytest.fixture(scope="session")
def data(measured):
    from predictor.training.dataset import dataset_of

    return dataset_of(measured)


@pytest.fixture(scope="session")
def found(data):
    from predictor.training.evaluate import evaluate

    return evaluate(data, trials=0)
