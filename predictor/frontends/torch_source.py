"""A graph as Python source: an ``nn.Module`` that needs torch alone, to train and to export.

    text = source_of(graph)          # a file: python network.py runs it
    module = module_of(graph)        # the same, in this process

Layers are attributes named after the graph's operators, ``forward`` is one line an operator, and
the size of the batch is left open wherever the graph allows it. Weights are as torch draws them.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from predictor.errors import ModelError
from predictor.frontends.torch_source_ops import ROTARY, code_of
from predictor.frontends.torch_source_shapes import Code, Site
from predictor.graph import Graph, Op, TensorSpec

if TYPE_CHECKING:
    from torch import nn

WIDTH = 100
"""Longest line of the source, where names allow it."""
_LETTERS = ("x", "y", "z", "w", "s", "t")
_OWN = frozenset({"torch", "nn", "F", "self", "cos", "sin", "rotary_tables", "quarter_turned"})
_HINT = re.compile(r"(?:^|[._])(q|k|v|qkv|gate)(?:_heads|_first|_last)?$")
"""Operators whose results are called as people call them."""
_TAKEN = frozenset({
    "T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children",
    "compile", "cpu", "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward",
    "get_buffer", "get_extra_state", "get_parameter", "get_submodule", "half", "ipu",
    "load_state_dict", "modules", "mtia", "named_buffers", "named_children", "named_modules",
    "named_parameters", "parameters", "register_backward_hook", "register_buffer",
    "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_load_state_dict_post_hook",
    "register_load_state_dict_pre_hook", "register_module", "register_parameter",
    "register_state_dict_post_hook", "register_state_dict_pre_hook", "requires_grad_",
    "set_extra_state", "set_submodule", "share_memory", "state_dict", "to", "to_empty", "train",
    "training", "type", "xpu", "zero_grad",
})  # fmt: skip
"""Attributes that every nn.Module has; a test holds them against torch."""


def source_of(graph: Graph, class_name: str = "Network", *, about: Sequence[str] = ()) -> str:
    """Python source of a module that computes ``graph``.

    Args:
        graph: what :class:`~predictor.builder.GraphBuilder` makes: a family's, a layer list's.
        class_name: what the class is called.
        about: lines for the head of the file; what the network is, by default.

    Raises:
        ModelError: an operator has no equivalent in PyTorch; the message names it and the remedy.
    """
    used = {*_OWN, "print", "sum", "super", "tuple"}
    if not class_name.isidentifier() or keyword.iskeyword(class_name) or class_name in used:
        raise ModelError(f"'{class_name}' is no name of a Python class; use one such as Network")
    body = _Body(graph)
    body.write()
    head = [*(about or ["A network as a PyTorch module; needs torch alone.", "", graph.name])]
    if body.assumed:
        head += ["", "Not said by the network's description, so check it:"]
        head += [f"- {text}" for text in body.assumed]
    imports = ["import torch", "from torch import nn"]
    if any("F." in line for line in body.forward):
        imports.insert(1, "import torch.nn.functional as F")
    helpers = [*ROTARY.splitlines(), "", ""] if body.rotary else []
    return "\n".join([
        *_docstring(head, ""), "", *imports, "", "", *helpers, f"class {class_name}(nn.Module):",
        *_docstring([_summary(graph)], "    "), "", "    def __init__(self) -> None:",
        "        super().__init__()", *body.init_lines, "", *_signature(graph, body), *body.forward,
        "", "", *_main(graph, class_name), "",
    ])  # fmt: skip


def module_of(graph: Graph) -> nn.Module:
    """The module that :func:`source_of` describes, with freshly drawn weights.

    Raises:
        ModelError: as in :func:`source_of`.
        ImportError: torch is not installed.
    """
    scope: dict[str, Any] = {"__name__": "network"}
    exec(compile(source_of(graph), "<network.py>", "exec"), scope)  # our own text
    module: nn.Module = scope["Network"]()
    return module


@dataclass
class _Body:
    """The lines of ``__init__`` and ``forward``, and what they had to assume."""

    graph: Graph
    init: list[str] = field(default_factory=list)
    forward: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    rotary: bool = False

    def __post_init__(self) -> None:
        self._names: dict[int, str] = {}  # tensor: the variable that holds it
        self._batch: dict[int, int | None] = {}  # tensor: axis of the batch
        self._maker: dict[int, str] = {}  # tensor: kind of the operator that made it
        self._attributes: dict[str, str] = {}  # attribute: the layer that it is
        self._owner: dict[tuple[int, ...], tuple[str, str]] = {}  # weights: attribute, layer
        self._last = _last_reads(self.graph)
        self._hints = _hints(self.graph)

    def write(self) -> None:
        """Fill the lines."""
        graph = self.graph
        floats = [spec for spec in graph.input_specs if spec.is_float]
        for tensor, name, spec in zip(graph.input_ids, graph.input_names, graph.input_specs,
                                      strict=True):  # fmt: skip
            plain = len(graph.input_ids) == 1 and bool(floats)
            word = "x" if plain else self._free(_identifier(name), ())
            self._names[tensor] = word
            self.inputs.append(word)
            self._batch[tensor] = 0 if spec.shape[:1] == (graph.batch,) else None
        for block, steps in _blocks(graph):
            if block is not None:
                self._open(block, graph.ops[steps[-1]])
            for step in steps:
                self._op(step, graph.ops[step])
        results = [self._names[tensor] for tensor in graph.output_ids]
        self.forward.append(f"        return {', '.join(results)}")

    @property
    def init_lines(self) -> list[str]:
        """Those of ``__init__``, without a blank one at the end."""
        return self.init[:-1] if self.init and not self.init[-1] else self.init

    def _open(self, block: str, last: Op) -> None:
        for lines in (self.forward, self.init):
            if lines and lines[-1]:
                lines.append("")
        if block:
            shape = " x ".join(map(str, last.outputs[0].shape[1:]))
            self.forward.append(f"        # {_plain(block)}: {shape}")

    def _op(self, step: int, op: Op) -> None:
        if op.target != op.kind:
            raise ModelError(
                f"{op.name}: '{op.target}' was read from a module or file, and a graph holds its "
                "costs but not all of its settings; use the module itself"
            )
        if not op.inputs or any(tensor not in self._names for tensor in op.input_ids):
            raise ModelError(
                f"{op.name}: it reads what no operator before it made, so it cannot be written as "
                "PyTorch; build the graph with GraphBuilder"
            )
        args = tuple(self._names[tensor] for tensor in op.input_ids)
        attribute = self._attribute(op) if op.weights else ""
        first = op.input_ids[0]
        site = Site(op, args, f"self.{attribute}", self._batch.get(first),
                    self._maker.get(first, ""), self.graph.source)  # fmt: skip
        code = code_of(site)
        if code.layer:
            used = self._layer(op, attribute, code)
            # The call was written for an attribute of its own.
            code = Code(re.sub(rf"\bself\.{attribute}\b", f"self.{used}", code.call), code.layer,
                        code.assumed)  # fmt: skip
        self._assume(op, code.assumed)
        if code.call.endswith("* cos") and not self.rotary:
            self.rotary = True
            self.forward.append(f"        cos, sin = rotary_tables({args[0]})")
        targets = self._assign(step, op)
        dead = all(target == "_" for target in targets)
        line = f"{', '.join(targets)} = {code.call}"
        comment = "  # nothing reads it; runtimes compute it all the same" if dead else ""
        self.forward += _wrapped(" " * 8, line, comment)
        for tensor, spec in zip(op.output_ids, op.outputs, strict=True):
            self._maker[tensor] = op.kind
            self._batch[tensor] = _batch_axis(op, self._batch.get(first), spec)

    def _assume(self, op: Op, text: str) -> None:
        """Said once for each operator, and once for all that are repeated in later blocks."""
        if text and not any(said.endswith(f": {text}") for said in self.assumed):
            self.assumed.append(f"{op.name}: {text}")

    def _attribute(self, op: Op) -> str:
        word = stem = _identifier(op.name)
        count = 1
        while word in self._attributes or word in _TAKEN or keyword.iskeyword(word):
            count += 1
            word = f"{stem}_{count}"
        return word

    def _layer(self, op: Op, attribute: str, code: Code) -> str:
        """The attribute to call: that of the same weights, or a new one, tied where shared."""
        ids = op.weight_ids
        owner, layer = self._owner.get(ids, ("", ""))
        if owner and layer == code.layer:
            return owner
        self._attributes[attribute] = code.layer
        self.init += _wrapped(" " * 8, f"self.{attribute} = {code.layer}")
        if owner:
            for weight in (self.graph.weights[i] for i in ids):
                suffix = weight.name.rpartition(".")[2]
                ours, theirs = (
                    f"self.{name}" if made.startswith("nn.Parameter") else f"self.{name}.{suffix}"
                    for name, made in ((attribute, code.layer), (owner, layer))
                )
                self.init.append(f"        {ours} = {theirs}  # one tensor for both")
        elif ids:
            self._owner[ids] = (attribute, code.layer)
        return attribute

    def _assign(self, step: int, op: Op) -> list[str]:
        """Variables for the results: letters whose tensors are read here last, or free ones."""
        freed = [self._names[t] for t in dict.fromkeys(op.input_ids) if self._last[t] == step]
        for tensor in op.input_ids:
            if self._last[tensor] == step:
                self._names.pop(tensor, None)
        targets = []
        for tensor in op.output_ids:
            if tensor not in self._last:
                targets.append("_")
                continue
            hint = self._hints.get(tensor)
            free = [word for word in _LETTERS if word in freed]
            name = self._free(hint or (free[0] if free else ""), targets)
            targets.append(name)
            self._names[tensor] = name
        return targets

    def _free(self, wish: str, also: Sequence[str]) -> str:
        used = {*self._names.values(), *also, *_OWN}
        more = (f"x{i}" for i in range(1, len(used) + 2))
        words = (word for word in (wish, *_LETTERS, *more) if word)
        return next(word for word in words if word not in used and not keyword.iskeyword(word))


def _last_reads(graph: Graph) -> dict[int, int]:
    """The step that reads each tensor last; results are read after all."""
    last = {tensor: step for step, op in enumerate(graph.ops) for tensor in op.input_ids}
    return last | dict.fromkeys(graph.output_ids, len(graph.ops))


def _hints(graph: Graph) -> dict[int, str]:
    """What a tensor should be called, from its operator's name or its first reader's."""
    hints: dict[int, str] = {}
    for op in reversed(graph.ops):
        found = _HINT.search(op.name)
        for tensor in (*op.input_ids, *op.output_ids) if found and op.is_view else op.output_ids:
            if found and (tensor in op.output_ids or tensor not in graph.input_ids):
                hints[tensor] = found[1]
    return hints


def _batch_axis(op: Op, axis: int | None, spec: TensorSpec) -> int | None:
    """Where the batch is in a result, by where it is in the first input."""
    if axis is None or not spec.shape:
        return None
    if op.kind == "transpose":
        order = op.attrs.get("order")
        return list(order).index(axis) if order is not None else None
    if axis == 0:
        return 0  # what is folded into the batch stays in front
    old, new = op.inputs[0].shape, spec.shape
    return axis if new[: axis + 1] == old[: axis + 1] else None


def _blocks(graph: Graph) -> Iterator[tuple[str | None, list[int]]]:
    """Steps that belong together: those under ``blocks.3``, say; "" is for what stands alone.

    The first is None where no operator has a block.
    """
    known = {block for op in graph.ops if (block := _block(op.name))}
    groups: list[tuple[str, list[int]]] = []
    for step, op in enumerate(graph.ops):
        block = op.name if op.name in known else _block(op.name)
        unnamed = op.name == f"{op.kind}_{step}"
        if groups and (block == groups[-1][0] or unnamed):
            groups[-1][1].append(step)
        else:
            groups.append((block, [step]))
    for block, steps in groups:
        yield (block if known else None), steps


def _block(name: str) -> str:
    parts = name.split(".")
    for i, part in enumerate(parts[:-1]):
        if i and part.isdigit():
            return ".".join(parts[: i + 1])
    return parts[0] if len(parts) > 1 else ""


def _identifier(name: str) -> str:
    word = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_") or "layer"
    return f"layer_{word}" if word[0].isdigit() else word


def _plain(text: str) -> str:
    """``text`` for a comment or a docstring: on one line, and nothing that would end it."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown.replace("\\", "\\\\").replace('"""', "'''")


def _docstring(lines: Sequence[str], indent: str) -> list[str]:
    texts = [_plain(line) for line in lines]
    texts[0] = texts[0] or "A network."
    if texts[-1].endswith('"'):
        texts[-1] += "."
    quoted = [f'{indent}"""{texts[0]}', *(f"{indent}{text}".rstrip() for text in texts[1:])]
    if len(quoted) == 1:
        return [f'{quoted[0]}"""']
    return [*quoted, f'{indent}"""']


def _summary(graph: Graph) -> str:
    shapes = ", ".join("x".join(map(str, spec.shape)) for spec in graph.input_specs)
    return f"{graph.params:,} parameters; {graph.macs:,} multiply-accumulates for {shapes}."


def _signature(graph: Graph, body: _Body) -> list[str]:
    given = "".join(f", {name}: torch.Tensor" for name in body.inputs)
    count = len(graph.output_ids)
    result = "torch.Tensor" if count == 1 else f"tuple[{', '.join(['torch.Tensor'] * count)}]"
    if count > 3:
        result = "tuple[torch.Tensor, ...]"
    return _wrapped("    ", f"def forward(self{given}) -> {result}:")


def _main(graph: Graph, class_name: str) -> list[str]:
    lines = ['if __name__ == "__main__":', f"    network = {class_name}().eval()"]
    rows = [op.weights[0].shape[0] for op in graph.ops
            if op.attrs.get("fn") == "embedding" and op.weights]  # fmt: skip
    names = []
    for number, spec in enumerate(graph.input_specs):
        names.append("example" if len(graph.input_specs) == 1 else f"example_{number}")
        made = f"torch.randn({', '.join(map(str, spec.shape))})"
        if not spec.is_float:
            made = f"torch.randint({min(rows, default=2)}, {spec.shape})"
        if spec.dtype not in ("float32", "int64"):
            made += f".to(torch.{spec.dtype})"
        lines.append(f"    {names[-1]} = {made}")
    several = len(graph.output_ids) > 1
    shown = "[tuple(part.shape) for part in output]" if several else "tuple(output.shape)"
    return [
        *lines, "    with torch.no_grad():", f"        output = network({', '.join(names)})",
        f'    print("output", {shown})',
        '    print(f"{sum(p.numel() for p in network.parameters()):,} parameters")',
    ]  # fmt: skip


def _wrapped(indent: str, line: str, comment: str = "") -> list[str]:
    """The line, broken inside its outermost parentheses where it is too long."""
    if len(indent + line) <= WIDTH or "(" not in line:
        return [indent + line + comment]
    opened = line.index("(") + 1
    closed = line.rindex(")")
    inner = line[opened:closed]
    head, tail = indent + line[:opened], indent + line[closed:] + comment
    if len(indent) + 4 + len(inner) <= WIDTH:
        return [head, f"{indent}    {inner}", tail]
    return [head, *(f"{indent}    {part}," for part in _parts(inner)), tail]


def _parts(text: str) -> Iterator[str]:
    """The arguments of a call, apart."""
    depth, start = 0, 0
    for i, char in enumerate(text):
        depth += (char in "([") - (char in ")]")
        if char == "," and depth == 0:
            yield text[start:i].strip()
            start = i + 1
    yield text[start:].strip()
