"""Every mistake in a space's file is answered with its place, its cause and a remedy."""

from __future__ import annotations

import contextlib
from random import Random

import pytest
from block_texts import BASE

from predictor.errors import ConfigError
from predictor.search.spaces.find import parse_space

WRONG: dict[str, tuple[str, str, str]] = {
    "unknown_key": (
        "inputs:",
        ("input_size: 3\ninputs:"),
        "s.yaml:1:1: input_size: unknown key. Did you mean 'inputs'?",
    ),
    "no_inputs": (
        "inputs: [1, 3, $side, $side]\n",
        "",
        ("s.yaml:1:1: 'inputs' is missing: the shape of the input, such as [1, 3, 224, 224]."),
    ),
    "inputs_number": (
        "inputs: [1, 3, $side, $side]",
        "inputs: 224",
        (
            "s.yaml:1:1: inputs: wants one input, batch first, such as [1, 3, $side, $side], "
            "or {tokens: {shape: [1, 128], dtype: int64}}."
        ),
    ),
    "no_values": (
        "width: [8, 16]",
        "width: []",
        (
            "s.yaml:2:30: parameters.width: the space is empty: this parameter has no "
            "values; list at least one."
        ),
    ),
    "twice": (
        "width: [8, 16]",
        "width: [8, 8]",
        "s.yaml:2:41: parameters.width[1]: 8 stands twice; remove one.",
    ),
    "spoken": (
        "width: [8, 16]",
        "width: [8, yes]",
        (
            "s.yaml:2:41: parameters.width[1]: 'yes' is text to some YAML readers, a boolean "
            "to others; write true, or quote it if text is meant."
        ),
    ),
    "unused": (
        "width: [8, 16]",
        "width: [8, 16], depth: [1]",
        ("s.yaml:2:46: parameters.depth: nothing reads $depth; use it in a layer, or remove it."),
    ),
    "unknown_name": (
        "out: $width, kernel: 3",
        "out: $widht, kernel: 3",
        ("s.yaml:4:25: layers[0].out: there is no parameter 'widht' here. Did you mean 'width'?"),
    ),
    "divide": (
        "out: $width, kernel: 3",
        "out: $width / 2, kernel: 3",
        (
            "s.yaml:4:25: layers[0].out: '/ 2' in '$width / 2' cannot be read; write //, "
            "which drops the remainder."
        ),
    ),
    "braces": (
        "out: $width, kernel: 3",
        'out: "${width}", kernel: 3',
        (
            "s.yaml:4:25: layers[0].out: '${width}' in '${width}' cannot be read; write "
            "$name without brackets."
        ),
    ),
    "open": (
        "out: $width, kernel: 3",
        "out: ($width * 2, kernel: 3",
        ("s.yaml:4:25: layers[0].out: '($width * 2' ends too early; a bracket is not closed."),
    ),
    "fraction": (
        "width: [8, 16]",
        "width: [8, 1.5]",
        (
            "s.yaml:4:20: layers[0].out: wants a whole number of 1 or more, got 1.5.\n"
            "s.yaml:10:24: layers[1].layers[0].out: wants a whole number of 1 or more, got "
            "1.5. (where width is 1.5)"
        ),
    ),
    "zero": (
        "out: $width * 2",
        "out: $width // 0",
        (
            "s.yaml:14:47: layers[2].of.wide[0].out: '$width // 0' divides by 0. (where head "
            "is wide)"
        ),
    ),
    "text_out": (
        "width: [8, 16]",
        "width: [8, wide]",
        (
            "s.yaml:4:20: layers[0].out: wants a whole number of 1 or more, got 'wide'.\n"
            "s.yaml:10:24: layers[1].layers[0].out: wants a whole number of 1 or more, got "
            "'wide'. (where width is wide)"
        ),
    ),
    "stage_word": (
        "  - global_avg_pool",
        "  - stage",
        "s.yaml:15:5: layers[3]: a stage needs keys: write {type: stage, name: ..., ...}.",
    ),
    "stage_key": (
        "    depth: [1, 2]",
        "    deep: [1, 2]",
        "s.yaml:7:5: layers[1].deep: unknown key. Did you mean 'depth'?",
    ),
    "depth_text": (
        "    depth: [1, 2]",
        "    depth: [1, two]",
        "s.yaml:7:16: layers[1].depth[1]: wants a whole number from 0 to 100, got 'two'.",
    ),
    "first_outside": (
        "kernel: 3, padding: 1",
        "kernel: {first: 3, rest: 1}, padding: 1",
        (
            "s.yaml:4:33: layers[0].kernel: first and rest are repetitions of a stage; "
            "outside of one write a single value."
        ),
    ),
    "only_outside": (
        "kernel: 3, padding: 1",
        "kernel: 3, padding: 1, only: rest",
        (
            "s.yaml:4:56: layers[0].only: 'only' says which repetitions of a stage have a "
            "layer; it has no meaning outside of one."
        ),
    ),
    "only_word": (
        "only: rest",
        "only: last",
        ("s.yaml:11:52: layers[1].layers[1].only: 'last' is no choice. Write first or rest."),
    ),
    "empty_choice": (
        "of: {none: [], wide: [{type: conv2d, out: $width * 2, kernel: 1}]}",
        "of: {}",
        (
            "s.yaml:14:5: layers[2].of: the space is empty: there is nothing to choose; "
            "write blocks by name, such as {small: [...], none: []}."
        ),
    ),
    "names": (
        "name: head",
        "name: s",
        "s.yaml:13:5: layers[2].name: the name 's' is taken; choose another.",
    ),
    "name_parameter": (
        "name: head",
        "name: width",
        "s.yaml:13:5: layers[2].name: the name 'width' is taken; choose another.",
    ),
    "unknown_type": (
        "  - global_avg_pool",
        "  - global_avg_pol",
        (
            "s.yaml:15:5: layers[3]: unknown layer type 'global_avg_pol'. Did you mean "
            "'global_avg_pool'?"
        ),
    ),
    "unknown_in_stage": (
        "kernel: $kernel, padding: same",
        "kernal: $kernel, padding: same",
        "s.yaml:10:37: layers[1].layers[0].kernal: unknown key. Did you mean 'kernel'?",
    ),
    "shape": (
        "padding: same}",
        "stride: 2}",
        (
            "s.yaml:11:9: layers[1].layers[1] (add): [1, 8, 8, 8] and [1, 8, 16, 16] do not "
            "broadcast"
        ),
    ),
    "shape_choice": (
        "out: $width * 2, kernel: 1",
        "out: $width * 2, kernel: 99",
        (
            "s.yaml:14:27: layers[2].of.wide[0] (conv2d): kernel [99, 99] does not fit into "
            "[32, 32] with padding [0, 0]; use padding: same, or a smaller kernel (where "
            "head is wide)"
        ),
    ),
    "shape_value": (
        "kernel: $kernel, padding: same",
        "kernel: $kernel",
        (
            "s.yaml:11:9: layers[1].layers[1] (add): [1, 8, 30, 30] and [1, 8, 32, 32] do "
            "not broadcast (where s.2.kernel is 3)"
        ),
    ),
    "from": (
        "from: [previous, block_input]",
        "from: [previous, stem]",
        ("s.yaml:11:21: layers[1].layers[1] (add): no layer or input above is called 'stem'."),
    ),
    "nothing": (
        BASE,
        ("inputs: [1, 3, 8, 8]\nlayers: [relu]\n"),
        (
            "s.yaml:1:1: the space is empty: it has no parameters; add a line such as "
            "'parameters: {width: [16, 24]}', a stage or a choose."
        ),
    ),
    "empty_layers": (
        BASE,
        ("inputs: [1, 3, 8, 8]\nlayers: []\n"),
        "s.yaml:2:1: layers: is empty; a network has at least one layer.",
    ),
    "no_layers": (
        BASE,
        "inputs: [1, 3, 8, 8]\n",
        (
            "s.yaml:1:1: 'layers' or 'space' is missing: the layers of a block space, or the "
            "name of one that is known (ofa, fbnet, nasbench201, resnet, vit, decoder)."
        ),
    ),
    "both": (
        "inputs:",
        ("space: ofa\ninputs:"),
        "s.yaml:1:1: space: the file has both space and layers; keep one.",
    ),
    "list": (
        BASE,
        "- relu\n",
        (
            "s.yaml:1:1: wants a mapping with 'space: NAME', or with inputs, parameters and "
            "layers, got a list."
        ),
    ),
    "model": (
        BASE,
        ("model: x\nspace: ofa\n"),
        (
            "s.yaml:1:1: model: unknown key. A network is a configuration; a space has "
            "'layers' with choices in them, or 'space: NAME'."
        ),
    ),
    "space": (
        BASE,
        "space: offa\n",
        (
            "s.yaml:1:1: space: unknown space 'offa'. Did you mean 'ofa'? Known: ofa, fbnet, "
            "nasbench201, resnet, vit, decoder; or python:FILE.py:CLASS."
        ),
    ),
    "narrow_name": (
        BASE,
        ("space: ofa\nparameters:\n  resolutoin: [160]\n"),
        (
            "s.yaml:3:3: parameters.resolutoin: ofa has no parameter 'resolutoin'. Did you "
            "mean 'resolution'? Parameters: resolution, width, d1, d2, d3, d4, d5, k11, k12, "
            "k13, k14, k21, k22, k23, k24, k31, k32, k33, k34, k41, k42, k43, k44, k51, k52, "
            "k53, k54, e11, e12, e13, e14, e21, e22, e23, e24, e31, e32, e33, e34, e41, e42, "
            "e43, e44, e51, e52, e53, e54."
        ),
    ),
    "narrow_value": (
        BASE,
        ("space: ofa\nparameters:\n  width: [1.0]\n  resolution: [160, 161]\n"),
        (
            "s.yaml:4:3: parameters.resolution: ofa, parameter resolution: '161' is none of "
            "its values; it has 128, 144, 160, 176, 192, 208, 224."
        ),
    ),
    "narrow_none": (
        BASE,
        ("space: ofa\nparameters: {resolution: []}\n"),
        (
            "s.yaml:2:14: parameters.resolution: the space is empty: this parameter has no "
            "values; list at least one."
        ),
    ),
    "narrow_heads": (
        BASE,
        ("space: vit\nparameters: {width: [128], heads: [5, 7]}\n"),
        (
            "s.yaml:2:1: parameters: 128 channels cannot be split into 5 or 7 heads; allow "
            "another number of heads or another width."
        ),
    ),
    "budget": (
        BASE,
        ("space: ofa\nbudget: {latency: 20}\n"),
        "s.yaml:2:10: budget.latency: unknown key. Did you mean 'latency_ms'?",
    ),
    "latency": (
        BASE,
        ("space: ofa\nlatency_ms: 20\n"),
        (
            "s.yaml:2:1: latency_ms: unknown key. It belongs under budget: write budget: "
            "{latency_ms: ...}."
        ),
    ),
    "trials": (
        BASE,
        ("space: ofa\ntrials: many\n"),
        "s.yaml:2:1: trials: wants a whole number of 1 or more, got 'many'.",
    ),
    "python": (
        BASE,
        "space: python:nope.py:Net\n",
        "s.yaml:1:1: space: python:nope.py:Net: there is no file nope.py.",
    ),
    "device": (
        BASE,
        ("space: ofa\ndevice: [jetson, 3]\n"),
        "s.yaml:2:18: device[1]: 3 is a number, but text is wanted; write '3' in quotes.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_messages_are_exactly_these(case: str) -> None:
    old, new, wanted = WRONG[case]
    assert old in BASE
    with pytest.raises(ConfigError) as caught:
        parse_space(BASE.replace(old, new), "s.yaml")
    assert str(caught.value) == wanted


def test_a_combination_that_does_not_fit_says_where() -> None:
    """Loading tries one value at a time; here it takes two."""
    text = BASE.replace("padding: 1}", "stride: $step, padding: 1}").replace(
        "width: [8, 16]", "width: [8, 16], step: [1, 4], window: [5, 13]"
    ).replace("  - global_avg_pool", "  - {type: max_pool, kernel: $window}")  # fmt: skip
    space = parse_space(text, "s.yaml").space
    values = {name: known[0] for name, known in space.parameters.items()}
    with pytest.raises(ConfigError) as caught:
        space.graph({**values, "step": 4, "window": 13})
    assert str(caught.value) == (
        "s.yaml:15:5: layers[3] (max_pool): kernel [13, 13] does not fit into [8, 8]"
    )


@pytest.mark.parametrize("cut", range(0, len(BASE), 7))
def test_a_torn_file_is_a_message(cut: int) -> None:
    """Whatever is left of a file is a space or a ConfigError, never anything else."""
    for text in (
        BASE[:cut],
        BASE[cut:],
        BASE[:cut] + "$" + BASE[cut:],
        BASE[:cut] + BASE[cut + 5 :],
    ):
        with contextlib.suppress(ConfigError):
            space = parse_space(text, "s.yaml").space
            space.graph(space.random(Random(0)))
