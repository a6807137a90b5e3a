"""The physical floor: a kernel takes at least its arithmetic at peak, and its bytes at bandwidth.

Williams, Waterman, Patterson: "Roofline: an insightful visual performance model for multicore
architectures", CACM 2009.
"""

from __future__ import annotations

import numpy as np

from predictor.kernels.features import Features, Floats


def roofline_ms(
    features: Features, *, peak_flops: float, vector_flops: float, bandwidth: float
) -> Floats:
    """Milliseconds a kernel at the least.

    Args:
        features: the kernels.
        peak_flops: dense peak of matrix arithmetic, FLOP/s.
        vector_flops: peak of element-wise arithmetic, FLOP/s.
        bandwidth: bytes/s of main memory.
    """
    compute = 2 * features.macs / peak_flops
    vector = features.elementwise_flops / vector_flops
    memory = features.bytes / bandwidth
    return 1e3 * np.maximum(np.maximum(compute, vector), memory)
