"""The one straight line: model, kernels, features, latencies, estimate."""

from __future__ import annotations

import functools
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.errors import ConfigError, UncoveredOperator
from predictor.estimate import Budget, Check, Estimate, KernelEstimate, Tier
from predictor.frontends.load import Resolution, load_graph
from predictor.graph import Graph
from predictor.hardware import Device, Target
from predictor.hints import hints_of, tile_hints
from predictor.language import ATTENTION, Language
from predictor.pause import collector_paused

if TYPE_CHECKING:
    from predictor.config import Config
    from predictor.kernels.lowering import Prepared
    from predictor.kernels.rules import FusionRules
    from predictor.latency.costing import Coster, Costs
    from predictor.latency.transfer import Blend

__all__ = ["Predictor", "check_budget", "load_graph", "predict"]

SCOPES = ("engine", "call")
NOT_INCLUDED = "not included: pre- and post-processing, host copies, first run"


class Predictor:
    """A target, loaded once, that answers for any number of graphs.

    Args:
        device: name, alias, or path of a ``device.yaml``, or a :class:`Device`.
        runtime, precision, layout, software: the target; None takes the device's default.
        power_mode: one of the device's power modes; None takes its default.
        attention: ``eager`` or ``fused``, instead of what the runtime does.

    Raises:
        UnknownDevice, ConfigError, ArtifactError: as the names say.
    """

    def __init__(
        self, device: str | Path | Device, *, runtime: str | None = None,
        precision: str | None = None, layout: str | None = None, power_mode: str | None = None,
        software: str | None = None, attention: str | None = None,
    ) -> None:  # fmt: skip
        from predictor.device import load_device
        from predictor.latency.costing import Coster

        base = device if isinstance(device, Device) else load_device(device)
        self.target: Target = base.target(runtime, precision, layout, software)
        self.device = base.at_power(power_mode)
        self.coster: Coster = Coster(base, self.target).at(self.device)
        bundle = self.coster.bundle
        self.blend: Blend | None = None
        if bundle is not None and bundle.blend is not None:
            from predictor.latency.transfer import Blend

            self.blend = Blend.load(bundle, base.folder or "")
        self.rules_name = bundle.rules if bundle else self.target.runtime
        self.rules: str | FusionRules = self.rules_name
        if attention is not None:
            from predictor.kernels.rules import load_rules

            word = ATTENTION[Language(attention=attention).attention or ""]
            self.rules = replace(load_rules(self.rules_name), attention=word)

    def estimate(
        self, graph: Graph, *, scope: str = "engine", budget: Budget | None = None,
        strict: bool = False, language: Language | None = None,
    ) -> Estimate:  # fmt: skip
        """The latency of ``graph`` on this target, with its provenance.

        Raises:
            ConfigError: unknown scope.
            UncoveredOperator: ``strict``, and a kernel stands on the roofline alone.
        """
        if scope not in SCOPES:
            raise ConfigError(f"unknown scope '{scope}'; use engine (alone) or call (from Python)")
        with collector_paused():
            found, cast = self._estimate(graph, scope, budget, strict)
        if language is None or language.phase is None:
            return found
        return replace(found, language=language.figures(cast, found.latency_ms))

    def _estimate(
        self, graph: Graph, scope: str, budget: Budget | None, strict: bool
    ) -> tuple[Estimate, Graph]:
        from predictor.kernels.lowering import prepare
        from predictor.latency.costing import renamed

        target = self.target
        ready = prepare(graph, target.precision, self.rules, target.layout)
        kernels = ready.kernels
        total_ms = None
        if self.blend is not None:
            own = kernels if self.rules == self.rules_name else None
            total_ms = self.blend.total_ms(graph, own, self.rules_name, self.target.precision)
        graph = ready.stored
        costs = self.coster.cost(kernels, total_ms, ready.features)
        if strict:
            self._refuse(graph, costs)
        launches = sum(len(kernel.ops) for kernel in kernels)
        estimate = _assemble(self, ready, costs, renamed(costs.kernels), launches, scope, budget)
        hints = (*estimate.hints, *tile_hints(self, list(kernels), estimate))
        return replace(estimate, hints=hints), graph

    def _refuse(self, graph: Graph, costs: Costs) -> None:
        if costs.uncovered:
            raise UncoveredOperator(
                f"strict: {_uncovered(costs, len(costs.kernels))}. Leave out --strict to take the "
                "roofline, or choose a target that covers them: predict-latency devices"
            )


@functools.lru_cache(maxsize=64)
def _predictor(device: str, stamp: float, target: tuple[tuple[str, Any], ...]) -> Predictor:
    return Predictor(device, **dict(target))


def find_predictor(device: str | Path | Device, **target: str | None) -> Predictor:
    """The target, loaded once a name; a ``device.yaml`` anew when it has changed."""
    if isinstance(device, Device):
        return Predictor(device, **target)
    path = Path(device)
    stamp = path.stat().st_mtime if path.is_file() else 0.0
    return _predictor(str(device), stamp, tuple(sorted(target.items())))


def predict(
    model: Any,
    *,
    device: str | Path | Device | None = None,
    runtime: str | None = None,
    precision: str | None = None,
    batch: int | None = None,
    resolution: Resolution | None = None,
    power_mode: str | None = None,
    layout: str | None = None,
    software: str | None = None,
    phase: str | None = None,
    sequence: int | None = None,
    context: int | None = None,
    attention: str | None = None,
    inputs: Any = None,
    scope: str | None = None,
    budget: Budget | None = None,
    strict: bool | None = None,
    config: Config | None = None,
) -> Estimate:
    """Predict the latency of a model on a device that need not be there.

    Args:
        model: a :class:`Graph`, a torch module (with ``inputs``), a path or a model name.
        device: a name, an alias, or the path of a ``device.yaml``.
        runtime, precision, layout, power_mode: the target; None takes the device's default.
        software: a version or release, where a device lists several of a runtime and precision.
        batch, resolution: override the model's own (for files and names).
        phase, sequence, context: ``prefill`` of ``sequence`` tokens or ``decode`` of one after
            ``context`` cached ones, for language models (names and files).
        attention: ``eager`` (kernel by kernel) or ``fused``; None is what the runtime does.
        scope: ``engine`` (the network alone) or ``call`` (a call through Python).
        budget: limits to check; ``strict`` makes uncovered kernels an error.
        config: a configuration; arguments given here win over it.

    Raises:
        PredictorError: one of :mod:`predictor.errors`, saying place, cause and remedy.
    """
    if config is None and isinstance(model, (str, os.PathLike)):
        text = os.fspath(model)
        if text == "-" or text.lower().endswith((".yaml", ".yml")):
            from predictor.config import load_config

            config = load_config(text)
    language = Language(phase, sequence, context, attention)
    if config is not None:
        language |= config.language
        device, runtime = device or config.device, runtime or config.runtime
        precision, layout = precision or config.precision, layout or config.layout
        power_mode, scope = power_mode or config.power_mode, scope or config.scope
        software = software or config.software
        budget = budget or config.budget
        strict = config.strict if strict is None else strict
    if device is None:
        raise ConfigError("no device: give one, such as device='jetson'")
    predictor = find_predictor(
        device, runtime=runtime, precision=precision, layout=layout, power_mode=power_mode,
        software=software, attention=language.attention,
    )  # fmt: skip
    graph = _graph_of(model, inputs, batch, resolution, config, language)
    return predictor.estimate(graph, scope=scope or "engine", budget=budget, strict=bool(strict),
                              language=language)  # fmt: skip


def _graph_of(
    model: Any, inputs: Any, batch: int | None, resolution: Resolution | None,
    config: Config | None, language: Language,
) -> Graph:  # fmt: skip
    if isinstance(model, (str, os.PathLike)):
        return load_graph(model, batch=batch, resolution=resolution, inputs=inputs, config=config,
                          language=language)  # fmt: skip
    if language.phase is not None or language.sequence is not None:
        raise ConfigError("phase and sequence are for names and files of language models")
    if isinstance(model, Graph):
        if batch not in (None, model.batch) or resolution is not None or inputs is not None:
            raise ConfigError(
                f"this graph was traced at batch {model.batch}; trace the model again at other "
                "shapes, or give its path or name"
            )
        return model
    if inputs is None:
        raise ConfigError("a module needs inputs, such as inputs=(1, 3, 224, 224)")
    from predictor.frontends.load import resized, sides_of
    from predictor.frontends.torch_module import rebatched, trace

    if resolution is not None:
        inputs = resized(inputs, sides_of(resolution))
    return trace(model, rebatched(inputs, batch) if batch is not None else inputs)


def check_budget(budget: Budget | None, latency_ms: float, graph: Graph, memory_mb: float,
                 model_mb: float) -> tuple[Check, ...]:  # fmt: skip
    """One check for each limit that the budget sets."""
    if budget is None:
        return ()
    lines = (
        ("latency_ms", latency_ms, budget.latency_ms, "ms"),
        ("macs", graph.macs, budget.macs, ""),
        ("flops", graph.flops, budget.flops, ""),
        ("params", graph.params, budget.params, ""),
        ("memory_mb", memory_mb, budget.memory_mb, "MB"),
        ("model_mb", model_mb, budget.model_mb, "MB"),
    )
    return tuple(Check(n, float(v), float(m), u) for n, v, m, u in lines if m is not None)


def _assemble(
    predictor: Predictor, ready: Prepared, costs: Costs, kernels: tuple[KernelEstimate, ...],
    launches: int, scope: str, budget: Budget | None,
) -> Estimate:  # fmt: skip
    import numpy as np

    from predictor.latency import intervals
    from predictor.latency.kernelwise import launched

    graph = ready.stored
    device, target, bundle = predictor.device, predictor.target, predictor.coster.bundle
    device_ms = sum(kernel.latency_ms for kernel in kernels)
    operators = launched(target.runtime, ready.graph, ready.kernels)
    beside = predictor.coster.overheads_ms(
        np.array([device_ms]), np.array([float(launches)]), np.array([operators]), scope,
        costs.first_wait_ms,
    )  # fmt: skip
    overheads = {name: float(ms[0]) for name, ms in beside.items()}
    latency_ms = device_ms + sum(overheads.values())
    log_error = predictor.coster.log_error(costs.uncovered_share, graph.batch, costs.whole)
    dtype_mb = graph.model_bytes / 1e6
    peak_mb = ready.peak_activation_bytes / 1e6
    memory_mb = dtype_mb + peak_mb
    device_mb = device.memory_gb * 1e3
    return Estimate(
        model=graph.name, device=device.name, device_title=device.title,
        runtime=target.runtime, precision=target.precision, power_mode=device.power_mode,
        software=(bundle.software if bundle else "") or target.software, batch=graph.batch,
        tier=Tier(target.tier), latency_ms=latency_ms,
        interval_ms=intervals.interval(latency_ms, log_error),
        throughput_fps=1e3 * graph.batch / latency_ms if latency_ms else 0.0,
        kernels=kernels, overheads_ms=overheads, macs=graph.macs, flops=graph.flops,
        elementwise_flops=graph.elementwise_flops, params=graph.params, model_mb=dtype_mb,
        memory_access_mb=ready.memory_access_bytes / 1e6,
        fused_memory_access_mb=sum(kernel.bytes for kernel in kernels) / 1e6,
        peak_activation_mb=peak_mb, memory_needed_mb=memory_mb,
        device_memory_mb=device_mb, fits_memory=memory_mb <= device_mb,
        peak_share=min(1.0, costs.roofline_ms / latency_ms) if latency_ms else 0.0, scope=scope,
        checks=check_budget(budget, latency_ms, graph, memory_mb, dtype_mb),
        warnings=_warnings(predictor, graph, costs, memory_mb, device_mb),
        hints=hints_of(predictor, kernels, overheads, latency_ms),
        notes=_notes(predictor, graph, scope, costs),
        accuracy=dict(bundle.card) if bundle else {},
        roof={"peak_flops": predictor.coster.hardware.peak_flops, "bandwidth": device.bandwidth},
    )  # fmt: skip


def _uncovered(costs: Costs, total: int) -> str:
    names = Counter(name.removeprefix("unknown:") for name in costs.uncovered)
    listed = ", ".join(f"{name} x{count}" for name, count in names.most_common(6))
    more = ", ..." if len(names) > 6 else ""
    return (
        f"{len(costs.uncovered)} of {total} kernels ({listed}{more}) have no measurement and no "
        "model on this device"
    )


def _warnings(
    predictor: Predictor, graph: Graph, costs: Costs, memory_mb: float, device_mb: float
) -> tuple[str, ...]:
    bundle, target = predictor.coster.bundle, predictor.target
    found = []
    if bundle is None:
        known = " and ".join(predictor.coster.anchors)
        scaled = f", scaled to {known}," if known else ""
        found.append(
            f"nothing was fitted for {target.runtime} {target.precision} on {predictor.device.name}"
            f"; roofline with typical efficiencies{scaled} used, interval widened"
        )
    elif costs.uncovered:
        found.append(f"{_uncovered(costs, len(costs.kernels))}; roofline used, interval widened")
    if graph.unknown:
        found.append(f"no formula for: {', '.join(graph.unknown)}; only their bytes are counted")
    if bundle is not None and bundle.siblings_only:
        found.append(f"{predictor.device.name} itself was never measured: {bundle.basis}")
    if bundle is not None and graph.batch < bundle.smallest_batch:
        found.append(
            f"fitted on batches of {bundle.smallest_batch} and more: batch {graph.batch} is "
            "extrapolated, interval widened"
        )
    if memory_mb > device_mb:
        found.append(
            f"needs about {memory_mb:,.0f} MB, the device has {device_mb:,.0f} MB: it will not fit"
        )
    return tuple(found)


def _notes(predictor: Predictor, graph: Graph, scope: str, costs: Costs) -> tuple[str, ...]:
    bundle = predictor.coster.bundle
    covers = "the engine alone" if scope == "engine" else "a call through Python"
    notes = [f"covers {covers}, steady state, batch {graph.batch}", NOT_INCLUDED]
    if scope == "call" and (bundle is None or bundle.call_ms is None):
        from predictor.latency.costing import CALL_MS

        notes.append(f"the call's {CALL_MS} ms is an assumption, not fitted for this target")
    if bundle is not None:
        notes.append(bundle.basis)
    if costs.whole is not None:
        near = "like a fitted one" if costs.whole.known else "unlike all fitted ones, interval wide"
        notes.append(f"this network is {near} (distance {costs.whole.distance:.2f})")
    if bundle is not None and predictor.coster.anchors:
        notes.append(f"scaled to {' and '.join(predictor.coster.anchors)}")
    return (*notes, *graph.notes)
