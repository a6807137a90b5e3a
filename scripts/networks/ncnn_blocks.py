"""Blocks of the networks that ncnn's benchmark times, on :class:`predictor.builder.GraphBuilder`.

Batch norm is folded into the convolution before it, so every convolution carries a bias, as in the
benchmark's own files. Operators that ncnn runs as one layer are one operator here.
"""

from __future__ import annotations

from predictor.builder import GraphBuilder, Value


class Net(GraphBuilder):
    """A builder with the blocks that several of these networks share."""

    def cba(
        self, x: Value, width: int, kernel: int = 1, stride: int = 1, *,
        pad: int | str | None = None,
        groups: int = 1, act: str = "relu",
    ) -> Value:  # fmt: skip
        """Convolution with bias, padded to keep the size unless told otherwise, and activation."""
        padding = kernel // 2 if pad is None else pad
        y = self.conv(x, width, kernel, stride=stride, padding=padding, groups=groups)
        return self.activation(y, act) if act else y

    def dw(
        self, x: Value, kernel: int = 3, stride: int = 1, *, act: str = "relu",
        pad: int | str | None = None,
    ) -> Value:  # fmt: skip
        """Depthwise convolution and activation."""
        width = x.shape[1]
        return self.cba(x, width, kernel, stride, groups=width, act=act, pad=pad)

    def separable(self, x: Value, width: int, stride: int = 1) -> Value:
        """Depthwise 3x3 and pointwise convolution, ReLU after both (MobileNet)."""
        return self.cba(self.dw(x, 3, stride), width)

    def gate(self, x: Value, hidden: int, act: str = "relu", sigmoid: str = "sigmoid") -> Value:
        """Squeeze and excitation: one factor a channel from the pooled map."""
        pooled = self.global_pool(x, flatten=True)
        factor = self.activation(self.linear(self.activation(self.linear(pooled, hidden), act),
                                             x.shape[1]), sigmoid)  # fmt: skip
        return self.mul(x, self.reshape(factor, (*x.shape[:2], 1, 1)))

    def inverted(
        self, x: Value, width: int, expanded: int, kernel: int = 3, stride: int = 1, *,
        act: str = "relu", se: int = 0, gate: str = "sigmoid", gate_act: str = "relu",
        act_last: bool = False, pad: int | str | None = None,
    ) -> Value:  # fmt: skip
        """Inverted residual: expand (if wider), depthwise, gate, project, add where it fits.

        ``act_last`` puts the depthwise activation after the gate, as MobileNetV3 does.
        """
        y = self.cba(x, expanded, act=act) if expanded != x.shape[1] else x
        late = act_last and se > 0
        y = self.dw(y, kernel, stride, act="" if late else act, pad=pad)
        if se:
            y = self.gate(y, se, gate_act, gate)
        if late:
            y = self.activation(y, act)
        y = self.cba(y, width, act="")
        return self.add(x, y) if stride == 1 and width == x.shape[1] else y

    def shuffle(self, x: Value, groups: int) -> Value:
        """Channel shuffle, which moves every value once."""
        n, c, h, w = x.shape
        split = self.reshape(x, (n, groups, c // groups, h, w))
        return self.reshape(self.transpose(split, (0, 2, 1, 3, 4)), x.shape)

    def halves(self, x: Value) -> tuple[Value, Value]:
        """Two halves of the channels."""
        first, second = self.split(x, [x.shape[1] // 2] * 2)
        return first, second

    def padded(self, x: Value, channels: int = 0, rows: int = 0) -> Value:
        """Zeros appended to the channels, or to both spatial sizes."""
        n, c, h, w = x.shape
        shape = (n, c + channels, h + rows, w + rows)
        return self.op("copy", [x], [shape], attrs={"fn": "pad"})[0]

    def classify(self, x: Value, hidden: int = 0, act: str = "", classes: int = 1000) -> Value:
        """Global pooling, a classifier with or without a hidden layer, softmax."""
        y = self.global_pool(x, flatten=True)
        if hidden:
            y = self.activation(self.linear(y, hidden), act)
        return self.softmax(self.linear(y, classes))

    def fire(self, x: Value, squeeze: int, expand: int) -> Value:
        """Fire module of SqueezeNet: squeeze, then 1x1 and 3x3 side by side."""
        y = self.cba(x, squeeze)
        return self.concat([self.cba(y, expand), self.cba(y, expand, 3)])

    def shuffle_unit(self, x: Value, width: int, stride: int, act: str = "relu") -> Value:
        """Unit of ShuffleNetV2, without the shuffle that follows it."""
        if stride == 1:
            kept, y = self.halves(x)
        else:
            kept = self.cba(self.dw(x, 3, 2, act=""), width // 2, act=act)
            y = x
        y = self.cba(y, width // 2, act=act)
        y = self.cba(self.dw(y, 3, stride, act=""), width // 2, act=act)
        return self.concat([kept, y])

    def boxes(self, outputs: list[Value], candidates: int) -> Value:
        """The detection layer: sorts ``candidates`` scores and keeps at most 100 boxes."""
        return self.op("sort", outputs, [(1, 100, 6)], attrs={"length": candidates})[0]
