"""Segmentation, depth and super-resolution networks that no permissive package has.

Written from their published structure; parameters are held against the published counts by a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.networks.blocks import Residual


def _double(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for wide in (inputs, outputs):
        layers += [nn.Conv2d(wide, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs),
                   nn.ReLU()]  # fmt: skip
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """U-Net with transposed convolutions, batch norm and padded convolutions."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        wide = (64, 128, 256, 512, 1024)
        self.first = _double(3, wide[0])
        self.downs = nn.ModuleList(_double(a, b) for a, b in pairwise(wide))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(b, b // 2, 2, 2) for b in wide[:0:-1])
        self.merges = nn.ModuleList(_double(b, b // 2) for b in wide[:0:-1])
        self.last = nn.Conv2d(wide[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, classes, H, W); sides are multiples of 16."""
        kept = [self.first(x)]
        for down in self.downs:
            kept.append(down(functional.max_pool2d(kept[-1], 2)))
        x = kept.pop()
        for up, merge in zip(self.ups, self.merges, strict=True):
            x = merge(torch.cat([kept.pop(), up(x)], 1))
        return self.last(x)


def _conv_bn(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation if kernel > 1 else 0
    conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class DeepLabV3Plus(nn.Module):
    """DeepLabV3+ on MobileNetV2 at output stride 16; ends with the class of every pixel."""

    def __init__(self, classes: int = 21) -> None:
        super().__init__()
        import timm

        self.backbone = timm.create_model(
            "mobilenetv2_100", features_only=True, output_stride=16, out_indices=(1, 4)
        )
        self.branches = nn.ModuleList([
            _conv_bn(320, 256, 1), *(_conv_bn(320, 256, 3, rate) for rate in (6, 12, 18))
        ])  # fmt: skip
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), _conv_bn(320, 256, 1))
        self.merge = _conv_bn(5 * 256, 256, 1)
        self.low = _conv_bn(24, 48, 1)
        self.decode = nn.Sequential(
            _conv_bn(304, 256, 3), _conv_bn(256, 256, 3), nn.Conv2d(256, classes, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to classes (N, H, W)."""
        low, high = self.backbone(x)
        parts = [branch(high) for branch in self.branches]
        parts.append(_grown(self.pooled(high), high.shape[-2:]))
        merged = self.merge(torch.cat(parts, 1))
        low = self.low(low)
        out = self.decode(torch.cat([_grown(merged, low.shape[-2:]), low], 1))
        return _grown(out, x.shape[-2:]).argmax(1)


def _grown(x: Tensor, size: Sequence[int]) -> Tensor:
    return functional.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


class PixelClasses(nn.Module):
    """The class of every pixel, from a torchvision segmentation network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, H, W)."""
        return self.network(x)["out"].argmax(1)


class _DenseBlock(nn.Module):
    """Five 3x3 convolutions, each reading all before it; scaled and added to the input."""

    def __init__(self, wide: int = 64, growth: int = 32) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(wide + i * growth, growth if i < 4 else wide, 3, padding=1) for i in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        parts = [x]
        for conv in self.convs[:4]:
            parts.append(functional.leaky_relu(conv(torch.cat(parts, 1)), 0.2))
        return x + 0.2 * self.convs[4](torch.cat(parts, 1))


class _ScaledResidual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        return x + 0.2 * super().forward(x)


class RRDBNet(nn.Module):
    """ESRGAN's generator: 23 residual-in-residual dense blocks, four times larger out than in."""

    def __init__(self, blocks: int = 23, wide: int = 64) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, wide, 3, padding=1)
        trunk = [_ScaledResidual(*(_DenseBlock(wide) for _ in range(3))) for _ in range(blocks)]
        self.body = Residual(nn.Sequential(*trunk, nn.Conv2d(wide, wide, 3, padding=1)))
        self.ups = nn.ModuleList(nn.Conv2d(wide, wide, 3, padding=1) for _ in range(2))
        self.tail = nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1), nn.LeakyReLU(0.2),
                                  nn.Conv2d(wide, 3, 3, padding=1))  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, 4 H, 4 W)."""
        x = self.body(self.first(x))
        for up in self.ups:
            x = functional.leaky_relu(up(functional.interpolate(x, scale_factor=2)), 0.2)
        return self.tail(x)


class CompactSuperResolution(nn.Module):
    """Real-ESRGAN's compact network: 32 convolutions with PReLU, pixel shuffle, input added."""

    def __init__(self, wide: int = 64, depth: int = 32, scale: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(depth + 1):
            layers += [nn.Conv2d(3 if i == 0 else wide, wide, 3, padding=1), nn.PReLU(wide)]
        layers.append(nn.Conv2d(wide, 3 * scale * scale, 3, padding=1))
        self.body = nn.Sequential(*layers, nn.PixelShuffle(scale))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, scale H, scale W)."""
        return self.body(x) + functional.interpolate(x, scale_factor=self.scale)


class QuickSRNet(nn.Sequential):
    """Plain 3x3 convolutions with clipped activations and a pixel shuffle, its skip folded away."""

    def __init__(self, wide: int, depth: int, scale: int = 4) -> None:
        layers: list[nn.Module] = []
        for i in range(depth + 1):
            layers += [nn.Conv2d(3 if i == 0 else wide, wide, 3, padding=1), nn.Hardtanh(0, 1)]
        out = nn.Conv2d(wide, 3 * scale * scale, 3, padding=1)
        super().__init__(*layers, out, nn.Hardtanh(0, 1), nn.PixelShuffle(scale))


class _Fusion(nn.Module):
    """MiDaS: adds what comes from below to a level, refines, doubles the size, narrows."""

    def __init__(self, wide: int, out: int, deepest: bool) -> None:
        super().__init__()
        self.units = nn.ModuleList(
            Residual(nn.Sequential(nn.ReLU(), nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(),
                                   nn.Conv2d(wide, wide, 3, padding=1)))
            for _ in range(1 if deepest else 2)
        )  # fmt: skip
        self.out = nn.Conv2d(wide, out, 1)

    def forward(self, below: Tensor, level: Tensor | None = None) -> Tensor:
        """A map of twice the size."""
        x = below if level is None else below + self.units[0](level)
        x = self.units[-1](x)
        return self.out(_grown(x, [2 * side for side in x.shape[-2:]]))


class MidasSmall(nn.Module):
    """MiDaS 2.1 small: EfficientNet-Lite3 features, four fusion blocks, a depth head."""

    def __init__(self) -> None:
        super().__init__()
        import timm

        self.backbone = timm.create_model(
            "tf_efficientnet_lite3", features_only=True, out_indices=(1, 2, 3, 4)
        )
        wide = (64, 128, 256, 512)
        self.enter = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False)
            for a, b in zip((32, 48, 136, 384), wide, strict=True)
        )
        self.fuse = nn.ModuleList(_Fusion(w, max(w // 2, 64), w == wide[-1]) for w in wide[::-1])
        self.head1 = nn.Conv2d(64, 32, 3, padding=1)
        self.head2 = nn.Sequential(
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 1), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to depths (N, 1, H, W)."""
        levels = [conv(f) for conv, f in zip(self.enter, self.backbone(x), strict=True)]
        path = self.fuse[0](levels[3])
        for fusion, level in zip(self.fuse[1:], levels[2::-1], strict=True):
            path = fusion(path, level)
        out = self.head1(path)
        return self.head2(_grown(out, [2 * side for side in out.shape[-2:]]))
