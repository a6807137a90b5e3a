"""What the service knows, from Python. The token comes from LATENCY_PREDICTOR_TOKEN.

python examples/service/client.py http://localhost:8000
"""

import sys

from predictor.service.client import Client, ServiceError

KEY = "ofa:ks=7,e=6,d=4"


def main(url: str) -> None:
    """Ask one question of each kind."""
    with Client(url) as client:
        estimate = client.predict(KEY, device="jetson")
        low, high = estimate.interval_ms
        print(f"{KEY} on {estimate.device}: {estimate.latency_ms:.2f} ms ({low:.2f} to {high:.2f})")
        slowest = max(estimate.kernels, key=lambda kernel: kernel.latency_ms)
        print(f"its slowest kernel: {slowest.name}, {slowest.latency_ms * 1e3:.0f} us")

        layer = {"layers": [{"type": "conv2d", "out": 32, "kernel": 3}]}
        counted = client.count(layer, inputs=[1, 3, 224, 224])
        print(f"a layer of {counted['macs']:,} MACs")

        for row in client.batch([KEY, "decoder:gpt2", "no:such"], devices=["jetson", "a100"]):
            print(f"row {row.row} on {row.device}:", row.error or f"{row.latency_ms:.2f} ms")

        try:
            client.predict(KEY, device="jetsn")
        except ServiceError as error:
            print(f"refused ({error.status}, {error.code}): {error}")

        job = client.start_search(
            "ofa", devices=["jetson"], accuracy="flops", sampler="random", trials=20,
            budget={"latency_ms": 5},
        )  # fmt: skip
        for state in client.follow(job.id):
            print(f"search: {state.state}, {state.done} of {state.trials}")
        print(f"{len(client.front(job.id).front)} on the front")
        client.delete_search(job.id)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000")
