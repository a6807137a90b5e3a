"""A search in a process of its own, that tells how far it is and what it has found.

It says three things through its socket, each a :class:`~predictor.service.wire.Reply`:
``progress`` (``about`` holds the counts), ``found`` (``body`` is ``SearchResult.to_dict`` so far),
and at the end ``done`` or the error that ended it. SIGTERM ends it after the trial at
hand, with what it has.
"""

from __future__ import annotations

import json
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from predictor.service.handlers import dumped
from predictor.service.settings import Limits
from predictor.service.wire import Reply, packed
from predictor.service.worker import NICE, failed, settle

if TYPE_CHECKING:
    from predictor.search.study import Search

TELL_S = 0.2
"""Seconds between two words of progress."""
SHOW_S = 2.0
"""Seconds between two states of what was found."""


def main(sock: socket.socket, home: str, scratch: str, limits: Limits, asked: str) -> None:
    """Run the search that ``asked`` (JSON) describes and tell about it through ``sock``."""
    settle(home, scratch, limits, NICE)
    teller = _Teller(sock)
    signal.signal(signal.SIGTERM, teller.stop)
    try:
        teller.run(_made(json.loads(asked), limits))
    except Exception as error:
        teller.tell(failed(error))


def _made(asked: dict[str, Any], limits: Limits) -> Search:
    from predictor.search.running import make_search

    device = asked.pop("devices", None) or asked.pop("device")
    asked.pop("device", None)
    return make_search(
        asked.pop("space"), device=device, signal=asked.pop("accuracy", "flops"),
        seconds=limits.search_seconds, **asked,
    )  # fmt: skip


class _Teller:
    """What a search says about itself."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.cancelled = False
        self.told = self.shown = 0.0
        self.search: Search | None = None

    def stop(self, number: int, frame: Any) -> None:
        """The search is to end."""
        self.cancelled = True

    def tell(self, reply: Reply) -> None:
        """Say something; a server that is gone ends this process."""
        try:
            self.sock.sendall(packed(reply))
        except OSError:
            raise SystemExit(0) from None

    def run(self, search: Search) -> None:
        """Search, telling the progress."""
        self.search = search
        search.say, search.stop = self.heard, lambda: self.cancelled
        try:
            result = search.run()
        finally:
            search.signal.close()
        self.tell(Reply(code="found", body=dumped(result.to_dict())))
        self.tell(Reply(code="cancelled" if self.cancelled else "done", message=result.notes[0]
                        if result.notes else "", about=self._counts()))  # fmt: skip

    def heard(self, text: str) -> None:
        """The search says something, before each trial."""
        now = time.monotonic()
        if now - self.told >= TELL_S:
            self.told = now
            self.tell(Reply(code="progress", message=text, about=self._counts()))
        if now - self.shown >= SHOW_S and self.search is not None and self.search.study is not None:
            self.tell(Reply(code="found", body=dumped(
                self.search.result(self.search.study).to_dict())))  # fmt: skip
            self.shown = time.monotonic()

    def _counts(self) -> str:
        from optuna.trial import TrialState

        study = self.search.study if self.search is not None else None
        states = (TrialState.COMPLETE, TrialState.FAIL)
        done = len(study.get_trials(deepcopy=False, states=states)) if study is not None else 0
        return json.dumps({"done": done})
