"""Seed configurations that between them hold every key and every layer type."""

from __future__ import annotations

SEEDS: dict[str, str] = {
    "name": """
model: torchvision:resnet18
inputs: [1, 3, 224, 224]
device: jetson
runtime: tensorrt
precision: fp16
layout: nchw
batch: 4
resolution: 256
power_mode: 15W
software: TensorRT 8.5
scope: call
strict: true
budget: {latency_ms: 20, macs: 600M, flops: 1.2G, params: 5K, memory_mb: 200, model_mb: 12.5}
""",
    "decoder": """
model:
  name: mine
  decoder:
    {like: gpt2, layers: 2, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, ffn: 128, vocab: 100,
     positions: 64, gated: false, tied: true, rotary: false, norm: layer, bias: all, activation: gelu}
phase: decode
context: 32
attention: eager
""",
    "prompt": "model: decoder:gpt2\nphase: prefill\nsequence: 16\n",
    "shapes": "model: model.onnx\ninputs: [[1, 3, 8, 8], [1, 4]]\nresolution: [64, 96]\n",
    "named": """
model: transformers:bert
inputs:
  input_ids: {shape: [1, 128], dtype: int64}
  mask: [1, 128]
""",
    "factory": """
model:
  source: python:nets.py:build
  args: {width: 0.75, name: small, deep: [1, 2, {a: true}], none: null}
inputs: [1, 3, 32, 32]
""",
    "conv1d": """
model:
  layers:
    - {type: conv1d, out: 8, kernel: 3, stride: 2, padding: 1, dilation: 2, groups: 2, bias: false, name: a, from: input, share: w}
    - {type: conv_transpose1d, out: 4, kernel: 4, stride: 2, padding: 1, output_padding: 1, dilation: 1, groups: 1, bias: true, share: v, name: b, from: a}
inputs: [2, 4, 32]
""",
    "conv2d": """
model:
  name: net
  outputs: [end]
  layers:
    - {type: conv2d, out: 8, kernel: [3, 5], stride: [2, 1], padding: same, dilation: 1, groups: 1, bias: true, name: a, from: input, share: w}
    - {type: conv2d, kernel: 3, groups: depthwise, padding: [1, 1]}
    - {type: conv_transpose2d, out: 8, kernel: 2, stride: 2, padding: 0, output_padding: 0, dilation: 1, groups: depthwise, bias: false, name: b, from: previous, share: v}
    - {type: conv2d, out: 4, kernel: 1, name: end}
inputs: [1, 3, 16, 16]
batch: 2
resolution: [24, 32]
""",
    "conv3d": """
model:
  layers:
    - {type: conv3d, out: 8, kernel: 3, stride: 2, padding: same, dilation: 1, groups: 1, bias: true, name: a, from: input, share: w}
    - {type: conv_transpose3d, out: 4, kernel: 2, stride: 2, padding: 0, output_padding: 0, dilation: 1, groups: 1, bias: true, name: b, from: a, share: v}
inputs: [1, 2, 8, 8, 8]
""",
    "products": """
model:
  layers:
    - {type: linear, out: 16, bias: false, name: a, from: x, share: w}
    - {type: transpose, axes: [1, 2], name: t, from: a}
    - {type: matmul, from: [a, t], name: scores}
    - {type: softmax, axis: -1, name: p, from: scores}
    - {type: matmul, from: [p, a]}
    - {type: linear, out: 16, bias: false, share: w}
inputs: {x: [1, 10, 16]}
""",
    "attention": """
model:
  layers:
    - {type: multi_head_attention, heads: 4, kv_heads: 2, head_dim: 8, packed: false, causal: true, bias: false, name: a, from: input, share: w}
    - {type: multi_head_attention, heads: 4, from: [a, input]}
    - {type: reshape, shape: [0, 0, 4, 8], name: heads, from: previous}
    - {type: permute, order: [0, 2, 1, 3], name: q, from: heads}
    - {type: attention, causal: true, from: [q, q, q], name: b}
inputs: [2, 6, 32]
""",
    "recurrent": """
model:
  layers:
    - {type: embedding, rows: 100, width: 16, name: e, from: tokens, share: w}
    - {type: lstm, hidden: 8, layers: 2, bidirectional: true, bias: false, batch_first: true, name: a, from: e, share: x}
    - {type: gru, hidden: 8, layers: 1, bidirectional: false, bias: true, batch_first: false, name: b, from: a, share: y}
    - {type: rnn, hidden: 8, layers: 3, bidirectional: true, bias: true, batch_first: true, name: c, from: b, share: z}
    - {type: select, axis: 1, index: -1, name: d, from: c}
inputs: {tokens: {shape: [2, 12], dtype: int64}}
""",
    "norms": """
model:
  layers:
    - {type: batch_norm, name: a, from: input, share: u}
    - {type: layer_norm, axes: 2, name: b, from: a, share: v}
    - {type: rms_norm, name: c, from: b, share: w}
    - {type: group_norm, groups: 4, name: d, from: c, share: x}
    - {type: instance_norm, name: e, from: d}
    - {type: scale, name: f, from: e, share: y}
    - {type: squeeze_excite, width: 2, reduction: 4, activation: silu, gate: hardsigmoid, name: g, from: f, share: z}
inputs: [1, 8, 6, 6]
""",
    "activations": """
model:
  layers:
    - relu
    - relu6
    - leaky_relu
    - {type: prelu, per_channel: true, name: p, from: previous, share: w}
    - elu
    - celu
    - selu
    - sigmoid
    - silu
    - gelu
    - tanh
    - hardtanh
    - hardsigmoid
    - hardswish
    - mish
    - softplus
    - softsign
    - logsigmoid
    - {type: glu, axis: 1, name: g, from: previous}
    - threshold
    - hardshrink
    - softshrink
    - {type: rrelu, name: r, from: g}
inputs: [1, 8, 4]
""",
    "arithmetic": """
model:
  layers:
    - {type: abs, name: a, from: x}
    - exp
    - log
    - sqrt
    - rsqrt
    - neg
    - reciprocal
    - square
    - sin
    - cos
    - {type: erf, name: b}
    - {type: add, from: [a, b, x], name: c}
    - {type: sub, from: [c, y]}
    - {type: mul, from: [previous, a]}
    - {type: div, from: [previous, a]}
    - {type: pow, from: [previous, a]}
    - {type: maximum, from: [previous, a]}
    - {type: minimum, from: [previous, a], name: d}
    - {type: mean, axes: [-1], keepdim: true, from: d, name: m}
    - {type: sum, axes: 1, keepdim: false, from: d}
    - {type: amax, axes: [0, 1], keepdim: true, from: d}
    - {type: amin, axes: 0, keepdim: false, from: d}
    - {type: argmax, axes: 1, keepdim: false, from: d}
inputs: {x: [2, 5], y: [1, 5]}
""",
    "pools": """
model:
  layers:
    - {type: max_pool, kernel: 3, stride: 2, padding: 1, ceil_mode: true, name: a, from: input}
    - {type: avg_pool, kernel: [2, 1], stride: [1, 1], padding: 0, ceil_mode: false, name: b, from: a}
    - {type: adaptive_avg_pool, size: 4, name: c, from: b}
    - {type: adaptive_max_pool, size: [3, 2], name: d, from: c}
    - {type: resize, size: [8, 8], mode: bilinear, name: e, from: d}
    - {type: upsample, scale: 1.5, mode: nearest, name: f, from: e}
    - {type: global_avg_pool, flatten: true, name: g, from: f}
    - {type: global_max_pool, flatten: false, name: h, from: f}
    - {type: resize, scale: 2, from: f}
    - {type: upsample, size: 3, from: f}
inputs: [1, 4, 32, 32]
""",
    "shape": """
model:
  layers:
    - {type: concat, axis: 1, from: [input, input], name: a}
    - {type: split, parts: 2, axis: 1, name: b, from: a}
    - {type: split, sizes: [1, 3], axis: 1, name: c, from: b.1}
    - {type: slice, axis: 2, start: 1, stop: -1, step: 2, name: d, from: c.1}
    - {type: pad, padding: [1, 1, 0, 2], name: e, from: a}
    - {type: pad, padding: 1, from: a}
    - {type: pixel_shuffle, factor: 2, name: f, from: a}
    - {type: pixel_unshuffle, factor: 2, name: g, from: f}
    - {type: channel_shuffle, groups: 2, name: h, from: g}
    - {type: cast, dtype: float16, name: i, from: h}
    - {type: dropout, rate: 0.5, name: j, from: i}
    - {type: identity, name: k, from: j}
    - {type: flatten, start: 1, end: -1, name: l, from: k}
    - {type: reshape, shape: [0, -1, 4], name: m, from: l}
inputs: [1, 4, 8, 8]
""",
    "tokens": """
model:
  layers:
    - {type: class_token, name: a, from: input, share: v}
    - {type: position_embedding, name: b, from: a, share: w}
    - {type: select, axis: 1, index: 0}
inputs: [1, 9, 16]
""",
    "repeat": """
model:
  layers:
    - {type: linear, out: 8, name: first}
    - type: repeat
      times: 3
      name: outer
      from: first
      layers:
        - {type: linear, out: 8, name: fc, share: all}
        - {type: repeat, times: 2, layers: [relu, {type: add, from: [previous, block_input]}]}
        - {type: add, from: [previous, fc, first]}
    - {type: mul, from: [outer.0.fc, outer]}
inputs: [1, 8]
""",
    "several": """
model:
  layers:
    - {type: linear, out: 8, from: input_0}
    - {type: add, from: [previous, input_1]}
inputs: [[1, 4], [1, 8]]
""",
    "quoted": 'model: "timm:resnet50"\nprecision: "int8"\ninputs: [[1, 3, 8, 8]]\n',
    "json": '{"model": {"layers": [{"type": "linear", "out": 3}, "relu"]}, "inputs": [1, 4]}',
    "block": "model: >-\n  nasbench201:|nor_conv_3x3~0|+|none~0|none~1|\nbudget:\n  latency_ms: 0.5\n",
}
