"""From the bytes of a request to a :class:`~predictor.config.Config` that is safe to predict.

A body is a config as JSON, the text of a config.yaml, or a form with a file and JSON beside it.
Whatever would read a file of this machine or run code is refused here: paths, ``python:``,
``transformers:`` with a path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from predictor.config import Config, ModelSource, parse_config
from predictor.errors import ConfigError, ModelError, UnknownDevice, suggest
from predictor.frontends.remote import refuse_local
from predictor.report.units import size_from_text
from predictor.service import schemas
from predictor.service.problems import Refusal, without_paths
from predictor.service.wire import Ask
from predictor.yamlmarks import read, to_python

JSON, YAML, FORM = "application/json", "application/yaml", "multipart/form-data"
TEXTS = ("device", "runtime", "precision", "layout", "software", "power_mode", "scope", "phase",
         "attention")  # fmt: skip
NUMBERS = ("batch", "sequence", "context")
SETTINGS = (*TEXTS, *NUMBERS, "resolution")
"""Query parameters that win over the body."""
TABLE_SETTINGS = tuple(name for name in SETTINGS if name != "device")
MOST_DEVICES = 64
"""That rows are asked for at once."""
UPLOADS = (".onnx", ".pt2", ".yaml", ".yml")
UPLOADED = "uploads"
"""The folder of uploaded files, in the one that a worker stands in."""
FILES = ("file", "model")
"""What the field of a file may be called."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-]+")


@dataclass(frozen=True, slots=True)
class Body:
    """What a request says: JSON values, the files that came with them, or the text of a config."""

    data: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[tuple[str, bytes]] = ()
    text: str | None = None


def read_body(ask: Ask) -> Body:
    """The body by its content type.

    Raises:
        Refusal: another content type, no JSON, or a damaged form.
    """
    kind = ask.content_type.partition(";")[0].strip().lower()
    if kind == JSON:
        return Body(_mapping(read_json(ask.body)))
    if kind in (YAML, "text/yaml", "application/x-yaml"):
        return Body(text=_utf8(ask.body))
    if kind == FORM:
        return _form(ask)
    raise Refusal("unsupported_media_type",
                  f"send {JSON}, {YAML}, or {FORM} with a file")  # fmt: skip


def configs_of(body: Body, query: Mapping[str, Any], *, device: bool) -> list[Config]:
    """One config for each model of a request, checked and safe.

    Files are written into the folder that this process stands in.

    Raises:
        Refusal, PredictorError: as the names say.
    """
    if body.text is not None:
        found = [(_from_text(body.text, "config.yaml"), False)]
    elif body.files:
        schemas.refuse_keys(body.data, ("model", "models"), "the file is the model")
        found = [_from_file(name, data, body.data, Path(UPLOADED, str(number)))
                 for number, (name, data) in enumerate(body.files)]  # fmt: skip
    else:
        found = [(from_data(body.data), False)]
    return [_safe(_with(config, query), device, written) for config, written in found]


def from_data(data: Mapping[str, Any]) -> Config:
    """A config from JSON values.

    Raises:
        Refusal: ``invalid`` where the values are not what the schema says, else ``conflict``.
    """
    try:
        return Config.from_dict(data)
    except ConfigError as error:
        wrong = not schemas.accepts("Config", data)
        raise Refusal("invalid" if wrong else "conflict", str(error)) from None
    except RecursionError:
        raise Refusal("invalid", "lists and mappings stand too deep inside one another") from None


def _safe(config: Config, device: bool, written: bool) -> Config:
    """The config, where it may come from the network; ``written``: its model is our own file."""
    if isinstance(config.model, ModelSource):
        named(config.model.source)
        raise ModelError(f"'{config.model.source[:80]}': a source with arguments is for Python "
                         "files, and those are not taken from the network")  # fmt: skip
    if isinstance(config.model, str) and not written:
        named(config.model)
    if config.device is not None:
        safe_device(config.device)
    elif device:
        raise Refusal("no_device", "no device: add device, such as \"device\": \"jetson\". "
                      "See: GET /v1/devices")  # fmt: skip
    return config


def named(model: str) -> str:
    """``model``, where it is a name that may come from the network.

    Raises:
        Refusal: it is none.
    """
    try:
        refuse_local(model)
    except ModelError as error:
        raise Refusal("unknown_model", str(error)) from None
    return model


def safe_device(name: str) -> str:
    """``name``, where it is no path.

    Raises:
        UnknownDevice: it is one.
    """
    if re.search(r"[/\\\0]|\.ya?ml$", name, re.IGNORECASE) or len(name) > 100:
        raise UnknownDevice(f"unknown device {name[:80]!a}: names only, no paths. "
                            "See: GET /v1/devices")  # fmt: skip
    return name


def read_query(
    text: str, also: Sequence[str] = (), known: Sequence[str] = SETTINGS
) -> dict[str, Any]:
    """Query parameters, typed: settings of a prediction, and those called ``also`` as text.

    Raises:
        Refusal: an unknown parameter, or one that stands twice, or a value that is none.
    """
    found: dict[str, Any] = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=64)
    except (UnicodeDecodeError, ValueError):
        raise Refusal("bad_request", "the query is no UTF-8, or has too many fields") from None
    for name, value in pairs:
        if name not in known and name not in also:
            raise Refusal("invalid", f"unknown parameter '{name[:60]}'."
                          f"{suggest(name, [*known, *also])}")  # fmt: skip
        if name in found:
            raise Refusal("invalid", f"the parameter {name} stands twice")
        found[name] = _typed(name, value)
    return found


def table_query(
    text: str, known: Sequence[str] = TABLE_SETTINGS
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Devices, of which there may be several, and the ``known`` settings.

    Raises:
        Refusal: an unknown or wrong parameter.
        UnknownDevice: a path.
    """
    pairs = parse_qsl(text, keep_blank_values=True)
    devices = tuple(safe_device(value) for name, value in pairs if name == "device")
    if len(devices) > MOST_DEVICES or "" in devices:
        raise Refusal("invalid", f"device: 1 to {MOST_DEVICES} of them, each with a name")
    rest = "&".join(part for part in text.split("&") if not part.startswith("device="))
    return devices, read_query(rest, known=known)


def _typed(name: str, value: str) -> Any:
    if name in NUMBERS:
        least = int(name != "context")
        if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < least:
            raise Refusal("invalid", f"{name} '{value[:40]}': a whole number of {least} or more")
        return int(value)
    if not 0 < len(value) <= 100:
        raise Refusal("invalid", f"{name}: 1 to 100 characters")
    if name == "resolution":
        size = size_from_text(value)
        if size is None:
            raise Refusal("invalid", f"resolution '{value[:40]}': pixels, such as 224, or height x "
                          "width: 360x640")  # fmt: skip
        return size
    return value


def _with(config: Config, query: Mapping[str, Any]) -> Config:
    """The config with settings of the query over it."""
    given = {name: query[name] for name in SETTINGS if name in query}
    if not given:
        return config
    data = {**given, "model": "x"}
    if isinstance(given.get("resolution"), tuple):
        data["resolution"] = list(given["resolution"])
    checked = from_data(data)
    return replace(config, **{name: getattr(checked, name) for name in given})


def _from_text(text: str, name: str) -> Config:
    try:
        return parse_config(text, name)
    except ConfigError as error:
        raise Refusal("conflict" if _fits(text) else "invalid", str(error)) from None


def _fits(text: str) -> bool:
    """Whether a YAML text is what the schema allows, so that only its parts do not go together."""
    try:
        return schemas.accepts("Config", to_python(read(text, "config.yaml")))
    except (ConfigError, RecursionError):
        return False


def _from_file(
    name: str, data: bytes, settings: Mapping[str, Any], folder: Path
) -> tuple[Config, bool]:
    """A config of an uploaded file, and whether the file is its model and was written to ``folder``
    (each its own: two may have one name). ``settings`` win over what a YAML file says."""
    clean = _UNSAFE.sub("_", name.replace("\\", "/").rpartition("/")[2]).lstrip(".")[-100:]
    suffix = Path(clean).suffix.lower()
    if suffix and suffix not in UPLOADS:
        raise Refusal("unsupported_file", f"'{clean}': a file is one of "
                      f"{', '.join(UPLOADS)}")  # fmt: skip
    if not suffix:  # a name says nothing: .pt2 is an archive, and all else can only be ONNX
        suffix = ".pt2" if data.startswith(b"PK") else ".onnx"
    if suffix in (".yaml", ".yml"):
        config = _from_text(_utf8(data, clean), clean)
        over = from_data({**settings, "model": "x"})
        own = {f.name: getattr(over, f.name) for f in fields(over) if f.name in settings}
        return replace(config, **own), False
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{Path(clean).stem or 'model'}{suffix}"
    path.write_bytes(data)
    return from_data({**settings, "model": str(path)}), True


# -- what bytes say -------------------------------------------------------------------------------


def read_json(body: bytes) -> Any:
    """JSON values; raises Refusal."""
    import orjson

    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal("bad_request", f"no JSON: {without_paths(str(error))}") from None


def _mapping(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise Refusal("invalid", "the body must be an object, such as "
                      '{"model": "ofa:ks=7,e=6,d=4", "device": "jetson"}')  # fmt: skip
    return data


def _utf8(data: bytes, name: str = "config.yaml") -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal("invalid", f"{name}: no UTF-8 text at byte {error.start}") from None


def _form(ask: Ask) -> Body:
    """A form: any number of ``file`` (or ``model``), and ``settings`` once."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import Field, File, parse_options_header

    _, options = parse_options_header(ask.content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise Refusal("bad_request", "the content type of a form names its boundary")
    fields_, files = list[Field](), list[File]()
    try:
        _parse_form(ask.body, boundary, fields_, files)
    except (FormParserError, ValueError) as error:
        raise Refusal("bad_request", f"no form: {error}") from None
    data: Mapping[str, Any] = {}
    uploads = list[tuple[str, bytes]]()
    names = [(one.field_name or b"").decode("utf-8", "replace") for one in fields_]
    for name, one in zip(names, fields_, strict=True):
        if name in FILES:
            uploads.append(("", one.value or b""))
            continue
        if name != "settings" or names.count(name) > 1:
            raise Refusal("invalid", f"a form has 'file', and 'settings' once; not '{name[:60]}'")
        data = _mapping(read_json(one.value or b""))
    for file in files:
        name = (file.field_name or b"").decode("utf-8", "replace")
        if name not in FILES:
            raise Refusal("invalid", f"the file's field is called 'file', not '{name[:60]}'")
        file.file_object.seek(0)
        uploads.append(((file.file_name or b"").decode("utf-8", "replace"),
                        file.file_object.read()))  # fmt: skip
    if not uploads:
        raise Refusal("invalid", "the form holds no file: add one under the name 'file'")
    return Body(data, uploads)


def _parse_form(body: bytes, boundary: bytes, fields_: list[Any], files: list[Any]) -> None:
    from python_multipart.multipart import FormParser

    config = {"MAX_MEMORY_FILE_SIZE": len(body) + 1, "MAX_BODY_SIZE": len(body) + 1}
    parser = FormParser("multipart/form-data", fields_.append, files.append, boundary=boundary,
                        config=config)  # fmt: skip
    parser.write(body)
    parser.finalize()
    parser.close()
