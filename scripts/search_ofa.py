"""Once-for-all sub-networks beside MobileNetV2, MobileNetV3-Large and EfficientNet-B0.

    OMP_NUM_THREADS=1 python -m scripts.search_ofa [--cache DIR]

For each of the three, sub-networks are looked for whose MACs and parameters lie within 5 % of its
own, at its resolution, that are predicted to be faster on the device and that the shipped zero-cost
ensemble finds no worse. Raw scores are kept in the cache as they come, so a run goes on where it
was ended. Writes ``docs/search-ofa.json`` and the page ``docs/search-ofa.md``. About ten minutes on
one core, most of them for the scores.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import predictor
from predictor.estimate import Estimate
from predictor.files import write_whole
from predictor.front import Value, Values, figure_name
from predictor.frontends.zoo_build import import_torchvision
from predictor.graph import Graph
from predictor.pipeline import find_predictor
from predictor.search.accuracy.ensemble import (
    REFERENCE,
    combined,
    default_members,
    reference_sample,
)
from predictor.search.accuracy.proxies import BATCH_SIZE
from predictor.search.candidate import Candidate
from predictor.search.pricing import Pricer
from predictor.search.problem import NORMAL_90
from predictor.search.space import SearchSpace
from predictor.search.spaces.ofa import WIDTHS, OnceForAll

if TYPE_CHECKING:
    from torch import nn

DEVICE, PIXELS, WINDOW, SEED = "jetson", 224, 0.05, 0
NETWORKS: dict[str, dict[str, float]] = {
    "mobilenet_v2": {"dropout": 0.0}, "mobilenet_v3_large": {"dropout": 0.0},
    "efficientnet_b0": {"dropout": 0.0, "stochastic_depth_prob": 0.0},
}  # fmt: skip
"""What is compared with, and what is switched off for its scores: the space's modules have neither
dropout nor stochastic depth."""
TRIED_WIDTHS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
DRAWN, ROUNDS, PARENTS, CHILDREN = 2000, 40, 24, 120
"""Random candidates a width; then, for each network, rounds of varying the best of each width."""
SCORED, STEPS, MORE_SEEDS = 2, 4, (1, 2)


WIDE = {**OnceForAll.parameters, "resolution": (PIXELS,), "width": TRIED_WIDTHS}
PUBLISHED: dict[str, tuple[Value, ...]] = {"model": tuple(NETWORKS)}


class OnceForAll224(OnceForAll):
    """Once-for-all at the resolution of the networks it is compared with, at more widths."""

    parameters = WIDE


class Published(SearchSpace):
    """The networks of torchvision, as what the accuracy signals take."""

    name = source = "torchvision"
    parameters = PUBLISHED

    def input_shape(self, values: Values) -> tuple[int, ...]:
        """The resolution they were published at."""
        return (3, PIXELS, PIXELS)

    def graph(self, values: Values, batch: int = 1) -> Graph:
        """As a user loads it."""
        return predictor.load_graph(f"torchvision:{values['model']}")

    def module(self, values: Values) -> nn.Module:
        """With PyTorch's own initialisation, which the space's modules have as well."""
        name = str(values["model"])
        module: nn.Module = getattr(import_torchvision()[0].models, name)(**NETWORKS[name])
        for part in module.modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
        return module


@dataclass
class Found:
    """Sub-networks within the window of one network: what each costs."""

    name: str
    estimate: Estimate
    inside: dict[str, dict[str, float]] = field(default_factory=dict)
    nearest: tuple[float, str, dict[str, float]] = (math.inf, "", {})

    def miss(self, own: Mapping[str, float]) -> float:
        """How far outside of the window; 0 within."""
        ratios = own["macs"] / self.estimate.macs, own["params"] / self.estimate.params
        return sum(max(0.0, abs(ratio - 1) - WINDOW) for ratio in ratios)

    @property
    def faster(self) -> list[str]:
        """Those predicted to be faster than the network, fastest first."""
        return sorted((key for key, own in self.inside.items()
                       if own["latency_ms"] < self.estimate.latency_ms),
                      key=lambda key: self.inside[key]["latency_ms"])  # fmt: skip


class Costs:
    """Figures of sub-networks, priced in bulk."""

    def __init__(self, space: SearchSpace) -> None:
        self.space, self.pricer = space, Pricer(space, [find_predictor(DEVICE)])
        self.known: dict[str, tuple[Values, dict[str, float]]] = {}

    def of(self, candidates: Iterable[Values]) -> list[str]:
        """Their keys; what they cost is in ``known``."""
        keyed = {self.space.key(values): values for values in candidates}
        new = [key for key in keyed if key not in self.known]
        figures = self.pricer.price([keyed[key] for key in new])
        device = self.pricer.names[0]
        columns = {word: figures[figure_name(word, device)]
                   for word in ("latency_ms", "low_ms", "high_ms")}  # fmt: skip
        columns |= {word: figures[word] for word in ("macs", "params")}
        for i, key in enumerate(new):
            own = {name: float(column[i]) for name, column in columns.items()}
            self.known[key] = keyed[key], own
        return list(keyed)


def evolve(costs: Costs, found: Found, chance: Random) -> None:
    """Vary, at each width, those that are nearest to the window, then the fastest within it."""

    def worth(key: str) -> float:
        own = costs.known[key][1]
        return 20 * found.miss(own) + math.log(own["latency_ms"] / found.estimate.latency_ms)

    pools: dict[object, list[str]] = {width: [] for width in TRIED_WIDTHS}
    new: Iterable[str] = list(costs.known)
    for _ in range(ROUNDS):
        for key in new:
            values, own = costs.known[key]
            pools[values["width"]].append(key)
            miss = found.miss(own)
            found.nearest = min(found.nearest, (miss, key, own), key=lambda entry: entry[0])
            if miss == 0:
                found.inside[key] = own
        children = []
        for width, pool in pools.items():
            pool[:] = sorted(dict.fromkeys(pool), key=worth)[:PARENTS]
            for _ in range(CHILDREN if pool else 0):
                parent = costs.known[chance.choice(pool)][0]
                child = costs.space.mutated(parent, chance, chance.choice((1, 1, 2, 3)))
                children.append({**child, "width": width})
        new = costs.of(children)


def to_score(found: Found) -> list[str]:
    """The fastest, and between them and the network itself those with the most parameters, in
    steps of latency: the score of a larger one is higher."""
    chosen: list[str] = []
    for widths in (WIDTHS, TRIED_WIDTHS):
        own = [key for key in found.faster if float(key.rpartition("w=")[2]) in widths]
        chosen += own[:SCORED]
        if own:
            low = found.inside[own[0]]["latency_ms"]
            step = (found.estimate.latency_ms - low) / STEPS
            for number in range(STEPS):
                within = [key for key in own if 0 <= found.inside[key]["latency_ms"] - low
                          - number * step <= step]  # fmt: skip
                chosen += sorted(within, key=lambda key: -found.inside[key]["params"])[:1]
    return list(dict.fromkeys(chosen))


class Scores:
    """Raw zero-cost scores, kept on disk line by line."""

    def __init__(self, cache: Path, say: Callable[[str], None]) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        self.path, self.say = cache / "search-ofa.jsonl", say
        self.members = {seed: default_members("digits", seed) for seed in (SEED, *MORE_SEEDS)}
        self._known: dict[str, dict[str, float]] = {}
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                self._known[entry["key"]] = entry["raw"]

    def of(self, candidate: Candidate, seed: int = SEED) -> dict[str, float]:
        """What each member says."""
        key = f"{candidate.space.source}:{candidate.key} seed {seed}"
        if key not in self._known:
            raw = {member.name: member.score(candidate) for member in self.members[seed]}
            self._known[key] = raw
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"key": key, "raw": raw}) + "\n")
            self.say(f"{key}: {raw}")
        return self._known[key]


def gates_ms(estimate: Estimate) -> float:
    """Milliseconds of squeeze-and-excitation: from a pooling to the multiplication after it."""
    total = since = 0.0
    pooled = False
    for kernel in estimate.kernels:
        if kernel.kind == "pool":
            pooled, since = True, 0.0
        if pooled:
            since += kernel.latency_ms
            if kernel.kind == "elementwise":
                total, pooled = total + since, False
    return total


def faster_probability(ours: Mapping[str, float], theirs: Estimate) -> float:
    """That the first is faster if both errors were independent, as wide as the intervals say."""
    spreads = (math.log(ours["high_ms"] / ours["latency_ms"]),
               math.log(theirs.interval_ms[1] / theirs.latency_ms))  # fmt: skip
    room = math.log(theirs.latency_ms / ours["latency_ms"])
    return NormalDist().cdf(room * NORMAL_90 / math.hypot(*spreads))


def described(key: str, own: Mapping[str, float], theirs: Estimate) -> dict[str, Any]:
    """A sub-network beside the network that it is compared with."""
    estimate = predictor.predict(predictor.load_graph(f"ofa:{key}"), device=DEVICE)
    room = math.log(theirs.latency_ms / own["latency_ms"])
    low, high = theirs.interval_ms
    return {
        "key": f"ofa:{key}", "latency_ms": estimate.latency_ms,
        "interval_ms": list(estimate.interval_ms), "macs": estimate.macs,
        "params": estimate.params, "kernels": len(estimate.kernels),
        "gates_ms": gates_ms(estimate), "latency_ratio": estimate.latency_ms / theirs.latency_ms,
        "macs_ratio": estimate.macs / theirs.macs, "params_ratio": estimate.params / theirs.params,
        "share_of_interval": room / math.log(theirs.latency_ms / low if room > 0
                                             else high / theirs.latency_ms),
        "faster_if_independent": faster_probability(own, theirs),
    }  # fmt: skip


def run(cache: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Search, score, compare."""
    space, published, chance = OnceForAll224(), Published(), Random(SEED)
    costs, scores = Costs(space), Scores(cache, say)
    for width in TRIED_WIDTHS:
        costs.of([{**space.random(chance), "width": width} for _ in range(DRAWN)])
    drawn = list(costs.known)
    found = []
    for name in NETWORKS:
        graph = published.graph({"model": name})
        one = Found(name, predictor.predict(graph, device=DEVICE))
        before = len(costs.known)
        evolve(costs, one, chance)
        found.append(one)
        fastest = min(one.inside.values(), key=lambda own: own["latency_ms"], default=None)
        say(f"{name} {one.estimate.latency_ms:.3f} ms: {len(costs.known) - before} looked at, "
            f"{len(one.inside)} within, {len(one.faster)} faster, fastest {fastest}")  # fmt: skip
    sample: dict[str, list[float]] = {}
    for candidate in reference_sample(space, SEED, REFERENCE):
        for member, value in scores.of(candidate).items():
            sample.setdefault(member, []).append(value)
    rows = [_compared(one, published, space, scores, sample) for one in found]
    return {
        "device": DEVICE, "pixels": PIXELS, "window": WINDOW, "seed": SEED, "batch": BATCH_SIZE,
        "reference": REFERENCE, "members": [m.name for m in scores.members[SEED]],
        "widths": list(TRIED_WIDTHS), "drawn": len(drawn), "priced": len(costs.known),
        "networks": rows,
    }  # fmt: skip


def _compared(
    one: Found, published: Published, space: SearchSpace, scores: Scores,
    sample: Mapping[str, Sequence[float]],
) -> dict[str, Any]:  # fmt: skip
    theirs, network = one.estimate, Candidate(published, {"model": one.name})
    raw = scores.of(network)
    score = combined(raw, sample)
    fastest = sorted(one.inside, key=lambda key: one.inside[key]["latency_ms"])
    keys = to_score(one) or fastest[:SCORED] or [one.nearest[1]]
    tried = []
    for key in keys:
        own = one.inside.get(key, one.nearest[2])
        its = scores.of(Candidate(space, space.values(key)))
        tried.append({**described(key, own, theirs), "raw": its, "score": combined(its, sample)})
    tried.sort(key=lambda row: row["latency_ms"])
    theirs_of = [combined(scores.of(network, seed), sample) for seed in (SEED, *MORE_SEEDS)]
    good = [row for row in tried if row["score"] >= score]
    best, seeds = None, [theirs_of, theirs_of]
    for row in good if one.inside else []:
        # One draw of weights may flatter; the mean of three has to be no worse too.
        values = space.values(row["key"].removeprefix("ofa:"))
        own_of = [combined(scores.of(Candidate(space, values), seed), sample)
                  for seed in (SEED, *MORE_SEEDS)]  # fmt: skip
        if row["latency_ratio"] < 1 and sum(own_of) >= sum(theirs_of):
            best, seeds = row, [theirs_of, own_of]
            break
    beaten = best is not None
    best = best or tried[0]
    own_widths = [key for key in fastest if float(key.rpartition("w=")[2]) in WIDTHS]
    return {
        "name": f"torchvision:{one.name}", "latency_ms": theirs.latency_ms,
        "interval_ms": list(theirs.interval_ms), "macs": theirs.macs, "params": theirs.params,
        "kernels": len(theirs.kernels), "gates_ms": gates_ms(theirs), "raw": raw, "score": score,
        "within": len(one.inside), "faster": len(one.faster), "beaten": beaten,
        "scored": len(tried), "no_worse": len(good), "best": best, "fastest": tried[0],
        "scores_of_seeds": {"network": seeds[0], "best": seeds[1]},
        "fastest_of_published_widths": one.inside[own_widths[0]]["latency_ms"]
        if own_widths else None, "within_of_published_widths": len(own_widths),
        "tried": [{name: row[name] for name in ("key", "latency_ms", "score", "raw")}
                  for row in tried],
    }  # fmt: skip


PAGE = """# Once-for-all beside published networks on the Jetson Orin Nano

`python -m scripts.search_ofa` makes this page: sub-networks of once-for-all MobileNetV3 (widths 0.6
to 1.3, no weights) at 224 x 224 whose MACs and parameters lie within 5 % of a published network's,
predicted by the default target (TensorRT, fp16, batch 1), each scored by the shipped zero-cost
ensemble as the published network is (digits, batch 16, the same draws of weights). *Score* counts
only as no worse or worse. The fastest sub-networks of each window were scored, not all; the one
shown is the fastest whose score is no worse with the first draw of weights and in the mean of
three."""


def page(found: Mapping[str, Any]) -> str:
    """The published page."""
    head = ("network", "latency", "sub-network", "ratio", "MACs", "parameters", "score, theirs",
            "score, ours", "")  # fmt: skip
    lines = [PAGE, "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for one in found["networks"]:
        best = one["best"]
        word = "beaten" if one["beaten"] else "not beaten"
        lines.append(
            f"| {one['name']} | {one['latency_ms']:.2f} ms | {best['latency_ms']:.2f} ms | "
            f"{best['latency_ratio']:.2f} | {100 * best['macs_ratio'] - 100:+.1f} % | "
            f"{100 * best['params_ratio'] - 100:+.1f} % | {one['score']:.2f} | {best['score']:.2f} "
            f"| {word} |"
        )
    lines += ["", f"{found['priced']:,} sub-networks were priced.", ""]
    for one in found["networks"]:
        lines += [f"- {one['name']}: {said(one)}"]
    return "\n".join([*lines, "", NOTES, ""])


def said(one: Mapping[str, Any]) -> str:
    """What one comparison comes to."""
    best = one["best"]
    if one["beaten"]:
        theirs, ours = (", ".join(f"{score:.2f}" for score in one["scores_of_seeds"][word])
                        for word in ("network", "best"))  # fmt: skip
        return (f"{one['faster']:,} of {one['within']:,} sub-networks in the window are predicted "
                f"to be faster; of {one['scored']} that were scored {one['no_worse']} score no "
                f"worse with the first draw of weights. With three draws the network scores "
                f"{theirs}, the sub-network {ours}. The gain is "
                f"{100 * best['share_of_interval']:.0f} % of the way to the end of the network's "
                "90 % interval, so the board may still see it the other way round. "
                f"`{best['key']}`")  # fmt: skip
    return (f"none of {one['within']:,} sub-networks in the window is predicted to be faster. The "
            f"network has {one['kernels']} kernels and no squeeze-and-excitation; the fastest "
            f"sub-network has {best['kernels']}, and {best['gates_ms']:.2f} ms of its "
            f"{best['latency_ms']:.2f} ms go into squeeze-and-excitation, which three of five "
            "stages always have. That is not all of the difference: the space's last layers "
            "hold more parameters, so blocks of equal MACs stand earlier, at more "
            "pixels.")  # fmt: skip


NOTES = """The published network's scores move much with the draw of weights, and a zero-cost score
tells little among good networks ([zero-cost.md](zero-cost.md)): that MobileNetV2, whose ReLU6 cuts
what SynFlow lets through, scores so low says nothing of its accuracy. What a comparison of trained
accuracies would say is open."""


def main() -> None:
    """Run and write; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/search-ofa.json"))
    options = parser.parse_args()
    cache = options.cache or Path(tempfile.gettempdir()) / "search-ofa-cache"
    found = run(cache, lambda text: print(text, flush=True))
    write_whole(options.output, (json.dumps(found, indent=1) + "\n").encode())
    write_whole(options.output.with_suffix(".md"), page(found).encode())


if __name__ == "__main__":
    main()
