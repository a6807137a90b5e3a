"""Models that come from the network: names that are built here, and nothing else.

A path would read this machine's files, and ``python:`` would run code. Names of network families,
decoders and model libraries only choose among what is installed. What goes back says
nothing of where things lie here.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

from predictor.errors import ModelError
from predictor.frontends.families import FAMILIES, is_family
from predictor.frontends.families.decoder import is_decoder

LIBRARIES = ("torchvision", "timm", "transformers")
"""Sources whose names are looked up in an installed package."""
LONGEST_NAME = 2048
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")


def refuse_local(name: str) -> None:
    """Raise where ``name`` would read a file of this machine or run code.

    Raises:
        ModelError: the name is a path, a Python source, or of no known source.
    """
    if len(name) > LONGEST_NAME:
        raise ModelError(f"a model name of {len(name):,} characters; {LONGEST_NAME:,} are the most")
    source, colon, rest = name.partition(":")
    if colon and (is_family(name) or is_decoder(name)):
        return
    if colon and source in LIBRARIES:
        if _WORD.fullmatch(rest) is None or rest.lower().endswith(".json"):
            raise ModelError(f"{_shown(name)}: a plain name must follow '{source}:', no path")
        return
    if colon and source == "python":
        raise ModelError("python: names a file whose code would be run, and is not taken from the "
                         "network. Send layers or an ONNX file")  # fmt: skip
    known = ", ".join(f"{word}:" for word in (*FAMILIES, "decoder", *LIBRARIES))
    raise ModelError(f"{_shown(name)} is no model that is taken from the network. Names begin with "
                     f"{known}; a file is sent itself, as YAML or ONNX")  # fmt: skip


def _shown(name: str) -> str:
    text = name if name.isprintable() else ascii(name)[1:-1]
    return f"'{text[:80]}'"


def without_folders(text: str) -> str:
    """``text`` with the folders of this machine cut off from paths."""
    for folder in _FOLDERS:
        text = text.replace(folder + os.sep, "").replace(folder, "...")
    return text


def _folders() -> tuple[str, ...]:
    """Folders that a message may name, the longest first."""
    package = Path(__file__).resolve().parent.parent
    found = {
        package.parent, package, Path(sys.prefix), Path(sys.base_prefix), Path(os.__file__).parent,
        Path(tempfile.gettempdir()), Path.home(), Path.cwd(),
    }  # fmt: skip
    found |= {path.resolve() for path in found}
    return tuple(sorted((str(p) for p in found if len(p.parts) > 1), key=len, reverse=True))


_FOLDERS = _folders()
