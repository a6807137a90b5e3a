"""Where a plan is measured: here, over SSH, over ADB. One file a kind, one contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from predictor.errors import ConfigError
from predictor.profiling.hosts import adb, ssh
from predictor.profiling.hosts.base import Host
from predictor.profiling.hosts.local import LocalHost

LOCAL = "local"


def find(
    place: str | None, folder: Path, *, python: str | None = None, ssh_options: Sequence[str] = ()
) -> Host:
    """The host that ``--host`` names.

    Args:
        place: ``ssh://...``, ``adb://...``, ``local`` or None for this machine.
        folder: where this machine keeps what it measures.
        python: the interpreter there.
        ssh_options: more options for ``ssh``.

    Raises:
        ConfigError: no such place, or options that it does not take.
    """
    if ssh_options and not (place or "").startswith(ssh.PREFIX):
        raise ConfigError("--ssh-option goes with --host ssh://...")
    if place is None or place == LOCAL:
        return LocalHost(folder, python)
    if place.startswith(ssh.PREFIX):
        return ssh.SshHost(place, python, ssh_options)
    if place.startswith(adb.PREFIX):
        return adb.AdbHost(place, python)
    raise ConfigError(f"--host {place}: no such place; use {ssh.FORM} or {adb.FORM}")
