"""``predict-latency serve``: predictions over HTTP."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click

from predictor.commands.options import debug_option, given
from predictor.commands.search import Megabytes
from predictor.errors import ConfigError, MissingExtra


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Where to listen. Anything but loopback needs tokens.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True,
              metavar="N", help="0 takes a free one; the log says which.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 256), metavar="N",
              help="Processes that predict. [default: one a core]")  # fmt: skip
@click.option("--tokens", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Bearer tokens with their expiry and rate, see docs/service.md. One token may "
              "also come from LATENCY_PREDICTOR_TOKEN.")  # fmt: skip
@click.option("--name", "names", multiple=True, metavar="HOST",
              help="A host name that requests may use, beside the address itself.")  # fmt: skip
@click.option("--max-body", type=Megabytes(), metavar="SIZE",
              help="Largest request: 64MB. [default: 64MB]")  # fmt: skip
@click.option("--max-time", type=click.FloatRange(min=0.1), metavar="SECONDS",
              help="Longest prediction. [default: 30]")  # fmt: skip
@click.option("--max-rows", type=click.IntRange(min=1), metavar="N",
              help="Most rows of a JSON batch. [default: 1000]")  # fmt: skip
@click.option("--max-operators", type=click.IntRange(min=1), metavar="N",
              help="Largest graph. [default: 50000]")  # fmt: skip
@click.option("--per-minute", type=click.IntRange(min=1), metavar="N",
              help="Requests of a token that has no rate of its own. [default: 600]")  # fmt: skip
@click.option("--grace", "grace_s", type=click.FloatRange(min=0), default=30.0, show_default=True,
              metavar="SECONDS",
              help="How long requests may take to end when it stops.")  # fmt: skip
@click.option("--light", is_flag=True,
              help="Do not load PyTorch ahead: starts sooner, and the first model of a library "
              "takes seconds.")  # fmt: skip
@debug_option
def command(
    host: str, port: int, workers: int | None, tokens: Path | None, names: tuple[str, ...],
    max_body: float | None, max_time: float | None, max_rows: int | None,
    max_operators: int | None, per_minute: int | None, grace_s: float, light: bool,
) -> int:  # fmt: skip
    """Serve predictions over HTTP, with a page to look at them.

    The API is under /v1 (see /v1/openapi.json), the page at /. It ends at SIGTERM or Ctrl-C, when
    the requests that it took are answered; SIGHUP looks at the profiles at once.
    """
    if os.name != "posix":
        raise ConfigError("serve needs fork servers and resource limits: run it on Linux or macOS")
    from predictor.service.settings import Limits, Settings
    from predictor.service.tokens import ENVIRONMENT

    limits = replace(Limits(), **given(
        body_bytes=None if max_body is None else int(max_body * 1e6), seconds=max_time,
        rows=max_rows, kernels=max_operators, per_minute=per_minute,
    ))  # fmt: skip
    settings = Settings(
        host=host, port=port, tokens=tokens,
        token=os.environ.get(ENVIRONMENT) or None,  # an empty one is none
        names=tuple(name.lower() for name in names), grace_s=grace_s, preload=not light,
        limits=limits,
    )  # fmt: skip
    if workers is not None:
        settings = replace(settings, workers=workers)
    try:
        from predictor.service.server import serve
    except ImportError as error:
        raise MissingExtra(f"the service needs more packages ({error}). "
                           "Run: pip install 'latency-predictor[service]'") from None  # fmt: skip
    return serve(settings)
