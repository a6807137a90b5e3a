"""From the command line's arguments to a graph or an estimate."""

from __future__ import annotations

import difflib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor import commands
from predictor.errors import ConfigError, ModelError
from predictor.estimate import Estimate

if TYPE_CHECKING:
    from predictor.config import Config

STDIN = "-"


def read_config(model: str) -> Config | None:
    """The YAML config that ``model`` names (``-`` is stdin); None for every other model.

    Raises:
        ConfigError: the file is wrong, with file:line:column.
    """
    if model != STDIN and not model.lower().endswith((".yaml", ".yml")):
        return None
    from predictor.config import load_config

    return load_config(model)


def estimate_model(
    model: str, config: Config | None, *, device: str | None = None, **settings: Any
) -> tuple[Estimate, str]:
    """The estimate, and the device name that was asked for (it may be an alias).

    Args:
        model: as the command line takes it.
        config: what :func:`read_config` gives for it.
        device: None takes the config file's.
        settings: keyword arguments of :func:`predictor.pipeline.predict` that were given.

    Raises:
        PredictorError: as the pipeline does.
    """
    requested = device or (config.device if config else None)
    if requested is None:
        where = " or 'device: NAME' in the file" if config else ""
        raise ConfigError(
            f"no device: give --device NAME{where}. See: predict-latency devices"
            + misspelt_command(model)
        )
    from predictor.pipeline import predict

    try:
        return predict(model, device=requested, config=config, **settings), requested
    except ModelError as error:
        raise _with_remark(error, model) from error


def misspelt_command(word: str) -> str:
    """``" Or did you mean the command 'devices'?"`` where a model's name is close to a command."""
    if Path(word).exists() or not word.isalpha():
        return ""
    names = [info.name for info in pkgutil.iter_modules(commands.__path__)]
    names = [name for name in names if name not in commands.HELPERS]
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.7)
    return f" Or did you mean the command '{near[0]}'?" if near else ""


def _with_remark(error: ModelError, model: str) -> ModelError:
    remark = misspelt_command(model)
    return ModelError(f"{error}{remark}") if remark else error
