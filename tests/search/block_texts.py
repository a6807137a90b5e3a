"""A small block space that several tests vary."""

BASE = """\
inputs: [1, 3, $side, $side]
parameters: {side: [32, 48], width: [8, 16]}
layers:
  - {type: conv2d, out: $width, kernel: 3, padding: 1}
  - type: stage
    name: s
    depth: [1, 2]
    parameters: {kernel: [1, 3]}
    layers:
      - {type: conv2d, out: $width, kernel: $kernel, padding: same}
      - {type: add, from: [previous, block_input], only: rest}
  - type: choose
    name: head
    of: {none: [], wide: [{type: conv2d, out: $width * 2, kernel: 1}]}
  - global_avg_pool
"""
