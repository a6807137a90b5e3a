"""From what a user asks for to a search that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.errors import ConfigError
from predictor.front import SearchResult
from predictor.search import accuracy, samplers
from predictor.search.pricing import Pricer
from predictor.search.problem import Problem
from predictor.search.space import SearchSpace
from predictor.search.spaces.find import LoadedSpace, load_space
from predictor.search.study import Search, limits_of

if TYPE_CHECKING:
    from predictor.device import Device

DEFAULT_CAUTION = 1.0
"""See :class:`~predictor.search.problem.Problem`. docs/search-margin.md shows what others do."""
DEFAULT_TRIALS, DEFAULT_SIGNAL = 200, "ensemble"
QUANTITIES = ("latency_ms", "macs", "flops", "params", "memory_mb", "model_mb")


def search(
    space: SearchSpace | LoadedSpace | str | Path, *,
    device: str | Device | Sequence[str | Device] | None = None,
    budget: Mapping[str, float] | None = None, accuracy: Any = None, trials: int | None = None,
    **settings: Any,
) -> SearchResult:  # fmt: skip
    """Search a space; the arguments are those of :func:`make_search`.

    Raises:
        PredictorError: one of :mod:`predictor.errors`, saying place, cause and remedy.
    """
    made = make_search(space, device=device, budget=budget, signal=accuracy, trials=trials,
                       **settings)  # fmt: skip
    try:
        return made.run()
    finally:
        made.signal.close()


def make_search(
    space: SearchSpace | LoadedSpace | str | Path, *,
    device: str | Device | Sequence[str | Device] | None = None,
    budget: Mapping[str, float] | None = None, signal: Any = None, trials: int | None = None,
    sampler: str | None = None, seed: int | None = None, aim: str = "best",
    margin: float | None = None, caution: float | None = None, upper: bool = False,
    runtime: str | None = None, precision: str | None = None, layout: str | None = None,
    power_mode: str | None = None, software: str | None = None, batch: int = 1,
    scope: str = "engine",
    storage: str | None = None, name: str = "search", seconds: float | None = None,
    data: Any = None, column: str | None = None, evaluation_seconds: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Search:  # fmt: skip
    """A search, ready to run. What the space's file says holds where an argument is None.

    Args:
        space: a space, its name, a YAML file or ``python:FILE.py:CLASS``.
        device: one or several; the latency budget holds on each.
        budget: limits by name: ``latency_ms``, ``macs``, ``flops``, ``params``, ``memory_mb``,
            ``model_mb``.
        signal: what tells accuracy: a :class:`~predictor.search.candidate.Signal`, or a text for
            :func:`predictor.search.accuracy.find`.
        trials: how many architectures are evaluated.
        sampler, seed: a strategy of :mod:`predictor.search.samplers`, and its seed.
        aim: ``best`` within the budgets, or the whole ``front``.
        margin: share of a latency's 90 % interval that its budget keeps free.
        caution: what turning out over a latency budget costs; 1 is as much as the median
            architecture is worse.
        upper: hold the upper end of the interval against the budget instead.
        runtime, precision, layout, power_mode, software, batch, scope: as in ``predict``.
        storage, name, seconds: see :class:`~predictor.search.study.Search`.
        data, column, evaluation_seconds: what the signal is told, see
            :class:`~predictor.search.accuracy.options.Options`.
        say: told the progress.

    Raises:
        ConfigError: a setting is wrong; settings of a file with their place.
        UnknownDevice, ArtifactError: as the names say.
    """
    if isinstance(space, LoadedSpace):
        loaded = space
    else:
        loaded = LoadedSpace(space) if isinstance(space, SearchSpace) else load_space(space)
    said = loaded.settings
    predictors = _predictors(
        device if device is not None else said.get("device"), runtime or said.get("runtime"),
        precision or said.get("precision"), layout, power_mode, software,
    )  # fmt: skip
    pricer = Pricer(loaded.space, predictors, batch=batch, scope=scope)
    limits = _limits(loaded, budget)
    for word, value in (("margin", margin), ("caution", caution)):
        if value is not None and not 0 <= value <= 10:
            raise ConfigError(f"{word} {value}: use 0 to 10")
    problem = Problem(
        loaded.space, pricer, limits_of(limits, pricer.names, upper=upper), margin or 0.0,
        DEFAULT_CAUTION if caution is None else caution,
    )  # fmt: skip
    chosen = said.get("seed", 0) if seed is None else seed
    word = sampler or said.get("sampler") or samplers.DEFAULT
    if word not in samplers.makers():
        samplers.find(word, problem, chosen, front=False)  # raises, before anything is evaluated
    return Search(
        problem, _signal(loaded, signal, data, column, evaluation_seconds, chosen),
        trials or said.get("trials") or DEFAULT_TRIALS, aim, word, chosen, storage, name, seconds,
        say=say,
    )  # fmt: skip


def _predictors(
    device: Any, runtime: str | None, precision: str | None, layout: str | None,
    power_mode: str | None, software: str | None,
) -> list[Any]:  # fmt: skip
    from predictor.pipeline import find_predictor

    if device is None:
        raise ConfigError("no device: give one, such as --device jetson")
    several = device if isinstance(device, list | tuple) else (device,)
    how = {"runtime": runtime, "precision": precision, "layout": layout, "power_mode": power_mode,
           "software": software}  # fmt: skip
    return [find_predictor(one, **how) for one in several]


def _limits(loaded: LoadedSpace, budget: Mapping[str, float] | None) -> dict[str, float]:
    """Limits of the file, those that were given on top."""
    own = loaded.settings.get("budget") or {}
    if not isinstance(own, Mapping):
        own = {name: getattr(own, name) for name in QUANTITIES}
    found = {**own, **(budget or {})}
    for name, value in found.items():
        if name not in QUANTITIES:
            raise ConfigError(f"budget: '{name}' is no quantity; use {', '.join(QUANTITIES)}")
        if value is not None and not value > 0:
            raise ConfigError(f"budget: {name} {value}: use a number above 0")
    return {name: float(found[name]) for name in QUANTITIES if found.get(name) is not None}


def _signal(
    loaded: LoadedSpace, signal: Any, data: Any, column: str | None, seconds: float | None,
    seed: int,
) -> Any:  # fmt: skip
    if signal is not None and not isinstance(signal, str):
        return signal
    text = signal or loaded.settings.get("accuracy") or DEFAULT_SIGNAL

    def canonical(key: str) -> str:
        return loaded.space.key(loaded.space.values(key.removeprefix(f"{loaded.space.source}:")))

    beside = _beside(text, loaded) if signal is None else text
    return accuracy.find(beside, data=data, column=column, seconds=seconds, seed=seed,
                         canonical=canonical)  # fmt: skip


def _beside(text: str, loaded: LoadedSpace) -> str:
    """A file that a space's file names lies beside it."""
    head, colon, rest = text.removeprefix("python:").partition(":")
    folder = Path(loaded.file).parent
    if not loaded.file or folder == Path():
        return text
    if head == "table" and colon:
        return f"table:{folder / rest}"
    return f"{folder / head}:{rest}" if head.endswith(".py") else text
