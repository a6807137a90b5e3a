"""What a worker does for each kind of request: the same straight line as the command line's.

A handler takes an :class:`~predictor.service.wire.Ask` and gives JSON bytes. Whatever is wrong is
raised: :class:`~predictor.service.problems.Refusal` or one of :mod:`predictor.errors`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

from predictor.errors import ModelError, PredictorError
from predictor.service import bodies, rows, schemas
from predictor.service.problems import Refusal, without_paths
from predictor.service.settings import Limits
from predictor.service.wire import Ask

if TYPE_CHECKING:
    from predictor.config import Config
    from predictor.estimate import Estimate
    from predictor.graph import Graph


_UNKNOWN = re.compile(r" has no (model|tag) | no model source|is no model ")
"""What the frontends say of a name that nothing is known of."""


class Handlers:
    """The handlers by kind; ``limits`` are those of one request."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.by_kind: dict[str, Callable[[Ask], bytes]] = {
            "predict": self.predict, "count": self.count, "compare": self.compare,
            "batch": self.batch, "devices": self.devices, "models": self.models,
            "spaces": self.spaces, "verify": self.verify, "check": rows.checked,
            "rows": self.rows,
        }  # fmt: skip

    def answer(self, ask: Ask) -> bytes:
        """The JSON that answers a request."""
        return self.by_kind[ask.kind](ask)

    # -- one model ------------------------------------------------------------------------------

    def predict(self, ask: Ask) -> bytes:
        """``Estimate.to_dict`` of one model on one device."""
        body = bodies.read_body(ask)
        config = _one(bodies.configs_of(body, bodies.read_query(ask.query), device=True))
        return dumped(self._estimate(config, self._graph(config)).to_dict())

    def count(self, ask: Ask) -> bytes:
        """``Count.to_dict`` of one model."""
        from predictor.report.count_table import count_graph

        body = bodies.read_body(ask)
        query = bodies.read_query(ask.query, ("by", "depth"))
        by, depth = query.get("by", "layer"), query.get("depth")
        if by not in ("layer", "module"):
            raise Refusal("invalid", f"by '{by[:40]}': layer or module")
        if depth is not None and not re.fullmatch(r"0*[1-9][0-9]{0,8}", depth):
            raise Refusal("invalid", f"depth '{depth[:40]}': a whole number of 1 or more")
        config = _one(bodies.configs_of(body, query, device=False))
        counted = count_graph(self._graph(config), by=by, depth=int(depth) if depth else None)
        return dumped({**counted.to_dict(), "resolution": config.resolution})

    def _graph(self, config: Config) -> Graph:
        from predictor.frontends.load import load_graph

        label = config.model if isinstance(config.model, str) else "model"
        try:
            graph = load_graph(label, config=config)
        except ModelError as error:
            raise _told(error, config) from None
        if len(graph.ops) > self.limits.kernels:
            raise Refusal("graph_too_large", f"{graph.name}: {len(graph.ops):,} operators; this "
                          f"server takes {self.limits.kernels:,} at most")  # fmt: skip
        notes = tuple(map(without_paths, graph.notes))
        return graph if notes == graph.notes else replace(graph, notes=notes)

    def _estimate(self, config: Config, graph: Graph) -> Estimate:
        from predictor.pipeline import find_predictor

        predictor = find_predictor(
            config.device or "", runtime=config.runtime, precision=config.precision,
            layout=config.layout, power_mode=config.power_mode, software=config.software,
            attention=config.language.attention,
        )  # fmt: skip
        found = predictor.estimate(graph, scope=config.scope or "engine", budget=config.budget,
                                  strict=config.strict, language=config.language)  # fmt: skip
        if not all(map(math.isfinite, (found.latency_ms, *found.interval_ms))):
            raise Refusal("conflict", f"{graph.name}: the latency is beyond what numbers can say")
        return found

    # -- several --------------------------------------------------------------------------------

    def compare(self, ask: Ask) -> bytes:
        """Every combination of models, devices, batches and resolutions."""
        from predictor.report import comparison

        bodies.read_query(ask.query, known=())
        body = bodies.read_body(ask)
        if body.text is not None:
            raise Refusal("unsupported_media_type", "a comparison is sent as JSON, or as a form")
        said = {**body.data, **({"models": ["x"]} if body.files else {})}
        schemas.check("Compare", said)
        several = {k: said.pop(k, None) for k in ("models", "devices", "batches", "resolutions")}
        grid = [several[k] or [None] for k in ("devices", "batches", "resolutions")]
        count = len(body.files or several["models"]) * len(list(product(*grid)))
        if count > self.limits.combinations:
            raise Refusal("too_many_combinations", f"{count} estimates; this server compares "
                          f"{self.limits.combinations} at once")  # fmt: skip
        if body.files:
            configs = bodies.configs_of(bodies.Body(said, body.files), {}, device=False)
        else:
            configs = [bodies.configs_of(bodies.Body({**said, "model": model}), {}, device=False)[0]
                       for model in several["models"]]  # fmt: skip
        cases = []
        for config, device, batch, size in product(configs, *grid):
            given = {"device": bodies.safe_device(device), "batch": batch, "resolution": size}
            one = bodies.from_data({**{k: v for k, v in given.items() if v is not None},
                                    "model": "x"})  # fmt: skip
            own = replace(config, device=device, batch=one.batch or config.batch,
                          resolution=one.resolution or config.resolution)  # fmt: skip
            cases.append(comparison.Case(self._estimate(own, self._graph(own)), size))
        return dumped(comparison.to_dict(cases))

    def batch(self, ask: Ask) -> bytes:
        """Latency and interval of each row on each device; a row's error stands in its place."""
        asked_of, _ = bodies.table_query(ask.query, known=())
        data = dict(bodies.read_body(ask).data)
        asked = data.get("rows")
        if isinstance(asked, list) and len(asked) > self.limits.rows:
            raise Refusal("batch_too_large", f"{len(asked):,} rows; JSON takes "
                          f"{self.limits.rows:,} at once. text/csv may be longer")  # fmt: skip
        schemas.check("Batch", data)
        devices = asked_of or data.pop("devices", [])
        rest = {k: v for k, v in data.items() if k not in ("rows", "devices")}
        wanted = [
            (number, {**rest, **row, "device": device})
            for number, row in enumerate(data["rows"])
            for device in ([row["device"]] if row.get("device") else devices or [None])
        ]
        found = rows.answered_json(wanted, lambda one: self._estimate(one, self._graph(one)))
        return dumped({"schema_version": 1, "rows": found})

    def rows(self, ask: Ask) -> bytes:
        """Lines of a table; half of the time limit for them, so that a slow row has the other."""
        return rows.answered(ask, self.limits.seconds / 2)

    # -- what there is --------------------------------------------------------------------------

    def devices(self, ask: Ask) -> bytes:
        """Every device, or the one that the query names."""
        from predictor.device import devices, load_device
        from predictor.inventory import devices_dict

        said = json.loads(ask.settings or "{}")
        if "name" in said:
            found = [load_device(bodies.safe_device(said["name"]), paths=False)]
            return dumped(devices_dict(found)["devices"][0])
        return dumped(devices_dict(list(devices())))

    def models(self, ask: Ask) -> bytes:
        """Names of models that can be asked for."""
        from predictor.service.names import models_dict

        return dumped(models_dict())

    def spaces(self, ask: Ask) -> bytes:
        """Search spaces, accuracy signals and samplers that a search can name."""
        from predictor.service.names import spaces_dict

        return dumped(spaces_dict())

    def verify(self, ask: Ask) -> bytes:
        """Load every target of the named devices; the first fault of each that is damaged."""
        return dumped({"damaged": {name: fault for name in json.loads(ask.settings)
                                   if (fault := _fault(name))}})  # fmt: skip


def _fault(name: str) -> str:
    from predictor.device import load_device
    from predictor.inventory import device_dict
    from predictor.pipeline import Predictor

    try:
        device = load_device(name, paths=False)
        device_dict(device)
        for target in device.targets:
            Predictor(device, runtime=target.runtime, precision=target.precision,
                      layout=target.layout, software=target.release or None)  # fmt: skip
    except PredictorError as error:
        return without_paths(str(error))
    except Exception as error:  # whatever a damaged file does to its reader, it is damaged
        return f"{type(error).__name__}: {without_paths(str(error))}"
    return ""


def dumped(data: Mapping[str, Any]) -> bytes:
    """JSON bytes. NaN and infinity, which JSON lacks, become null; latencies are never such."""
    import orjson

    text: bytes = orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS)
    return text


def _one(configs: list[Config]) -> Config:
    if len(configs) != 1:
        raise Refusal("invalid", "one model at a time; POST /v1/compare takes several")
    return configs[0]


def _told(error: ModelError, config: Config) -> Exception:
    """A name that nothing is known of is not found; all else does not fit together."""
    if isinstance(config.model, str) and _UNKNOWN.search(str(error)):
        return Refusal("unknown_model", without_paths(str(error)))
    return error
