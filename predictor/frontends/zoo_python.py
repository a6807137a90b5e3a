"""``python:FILE:FACTORY``: a module from the user's own file."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.errors import ModelError, suggest
from predictor.frontends.zoo_build import Built, build_module, need

if TYPE_CHECKING:
    from torch import nn


def build_python(name: str, rest: str, args: dict[str, Any], on_meta: bool) -> Built:
    """The module that FACTORY in FILE is or makes; :func:`~predictor.frontends.zoo.build_named`.

    Errors: :class:`ModelError`, with file and line where the user's code fails.
    """
    need("torch", "torch", name)
    from torch import nn

    file, colon, attribute = rest.rpartition(":")
    if not colon or not file or not attribute:
        raise ModelError(f"{name}: write python:FILE:FACTORY, as in python:nets.py:build")
    path = Path(file)
    if not path.is_file():
        others = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ModelError(f"{name}: there is no file {file}.{suggest(path.name, others)}")
    path = path.resolve()
    with _on_path(path.parent):
        target = _attribute(_import_file(path), attribute, name)
        if isinstance(target, nn.Module):
            if args:
                raise ModelError(f"{name}: '{attribute}' is a module already and takes no args")
            return Built(target, None, ())
        if not callable(target):
            kind = type(target).__name__
            raise ModelError(
                f"{name}: '{attribute}' is of type {kind}, not a module or what makes one"
            )
        with _user_code(path, f"{attribute}({', '.join(f'{k}={v!r}' for k, v in args.items())})"):
            module = build_module(lambda: _checked(target(**args), attribute, name), on_meta,
                            initialise=True)  # fmt: skip
    return Built(module, None, ())


def _checked(value: Any, attribute: str, name: str) -> nn.Module:
    from torch import nn

    if not isinstance(value, nn.Module):
        raise ModelError(
            f"{name}: '{attribute}' returned {type(value).__name__}, not a torch.nn.Module"
        )
    return value


def _import_file(path: Path) -> Any:
    label = f"_user_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(label, path)
    if spec is None or spec.loader is None:
        raise ModelError("not a Python file", file=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[label] = module  # dataclasses and pickling look their module up by name
    try:
        with _user_code(path, "importing it"):
            spec.loader.exec_module(module)
    except ModelError:
        del sys.modules[label]
        raise
    return module


def _attribute(module: Any, attribute: str, name: str) -> Any:
    target = module
    for word in attribute.split("."):
        if not hasattr(target, word):
            known = [w for w in vars(target) if not w.startswith("_")]
            raise ModelError(f"{name}: there is no '{word}'.{suggest(word, known)}")
        target = getattr(target, word)
    return target


@contextlib.contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    """The file's neighbours can be imported while it is."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the user's code may have edited sys.path
            sys.path.remove(str(folder))


@contextlib.contextmanager
def _user_code(path: Path, doing: str) -> Iterator[None]:
    """What the user's code raises becomes a ModelError with the line in the user's file."""
    try:
        yield
    except ModelError:
        raise
    except SyntaxError as error:
        file = str(error.filename or path)
        raise ModelError(
            f"SyntaxError: {error.msg}", file=file, line=error.lineno, column=error.offset
        ) from error
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename) == path]
        line = own[-1].lineno if own else None
        raise ModelError(
            f"{doing} raised {type(error).__name__}: {error}", file=str(path), line=line
        ) from error
