"""Boards behind a real OpenSSH server on this machine, with keys and a configuration of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import stand_in
from test_kills import children, lives

from predictor.errors import ConfigError, MeasurementError
from predictor.profiling import hosts, session
from predictor.profiling.hosts.ssh import SshHost

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
needs_server = pytest.mark.skipif(
    not (SSHD and shutil.which("ssh") and shutil.which("ssh-keygen")),
    reason="no sshd: apt-get install openssh-server",
)


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    folder: Path
    port: int

    @property
    def known(self) -> Path:
        return self.folder / "known_hosts"

    def options(self, known: Path | None = None) -> list[str]:
        """As a user gives them; the first keeps this machine's own configuration out."""
        words = shlex.quote(str(known or self.known))
        return ["-F /dev/null", f"-i {shlex.quote(str(self.folder / 'user_key'))}",
                f"-o UserKnownHostsFile={words}", "-o IdentitiesOnly=yes"]  # fmt: skip

    def host(self, folder: str | Path = "/~/never-used", **more: object) -> SshHost:
        place = f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{folder}"
        settings = {"python": sys.executable, "ssh_options": self.options(), **more}
        found = hosts.find(place, Path("unused"), **settings)  # type: ignore[arg-type]
        assert isinstance(found, SshHost)
        return found


def key(path: Path) -> str:
    """A new key pair; the public half."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True
    )
    return path.with_name(path.name + ".pub").read_text().strip()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    assert SSHD
    folder = tmp_path_factory.mktemp("sshd")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host_key, user_key = key(folder / "host_key"), key(folder / "user_key")
    (folder / "authorized_keys").write_text(user_key + "\n")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        "MaxStartups 100\nUseDNS no\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it locks itself in
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log, stdin=subprocess.DEVNULL
    )
    until = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        said = (folder / "log").read_text()
        assert process.poll() is None and time.monotonic() < until, said  # noqa: PT018
        time.sleep(0.05)
    try:
        yield Server(process, folder, port)
    finally:
        sessions = children(process.pid)
        process.terminate()
        process.wait()
        for one in sessions:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGTERM)
        log.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "target"


def kept(folder: Path) -> list[bytes]:
    return stand_in.whole_lines(folder / session.RESULTS)


@needs_server
def test_a_plan_is_measured_over_ssh(server: Server, tmp_path: Path, folder: Path) -> None:
    ids = stand_in.write_plan(tmp_path / "p.zip", 5)
    board = tmp_path / "on the board's disk; $(touch pwned)"
    with stand_in.with_runtime:
        host = server.host(board)
        summary = session.run(tmp_path / "p.zip", folder, host, 60)
        assert summary.measured == ids == stand_in.tasks_of(kept(folder))
        (results,) = board.glob("results-*.jsonl")
        assert stand_in.whole_lines(results) == kept(folder)
        assert not list(tmp_path.rglob("*pwned*"))[1:]  # the folder itself has it in its name
        files = {path: path.stat().st_mtime_ns for path in board.iterdir() if path.suffix != ".txt"}
        before = kept(folder)
        (folder / session.RESULTS).unlink()  # lost here: the board has it
        assert len(session.run(tmp_path / "p.zip", folder, host).measured) == 5
    assert set(before) <= set(kept(folder))
    again = {path: path.stat().st_mtime_ns for path in files if path != results}
    assert again.items() <= files.items()  # sent once
    assert host.describe() == f"ssh://{getpass.getuser()}@127.0.0.1:{server.port}"


@needs_server
def test_the_tables_agree_with_those_taken_here(server: Server, tmp_path: Path) -> None:
    stand_in.write_plan(tmp_path / "p.zip", 4)
    with stand_in.with_runtime:
        session.run(tmp_path / "p.zip", tmp_path / "here", stand_in.local(tmp_path / "here"))
        session.run(tmp_path / "p.zip", tmp_path / "there", server.host(tmp_path / "board"))
    times = [
        {row["task"]: row["latency_us"] for row in map(stand_in.journal.parse_line, kept(place))
         if row and row["row"] == "task"}
        for place in (tmp_path / "here", tmp_path / "there")
    ]  # fmt: skip
    assert times[0] == times[1]


@needs_server
def test_a_board_that_vanishes_and_comes_back(server: Server, tmp_path: Path, folder: Path) -> None:
    ids = stand_in.write_plan(tmp_path / "p.zip", 40, sleep_s=0.1)
    host = server.host(tmp_path / "board")
    seen: list[list[bytes]] = []

    def cut(progress: session.Progress) -> None:
        """End the server's sessions after the third row, as a cut wire would."""
        original = host.start

        def start(*args: object) -> Iterator[bytes]:
            for count, line in enumerate(original(*args)):  # type: ignore[arg-type]
                yield line
                if count == 3:
                    for process in children(server.process.pid):
                        with contextlib.suppress(OSError):  # ended by another one's end
                            if b"sshd" in Path(f"/proc/{process}/cmdline").read_bytes():
                                os.kill(process, signal.SIGKILL)

        host.start = start  # type: ignore[method-assign,assignment]

    with stand_in.with_runtime:
        with pytest.raises(MeasurementError) as caught:
            session.run(tmp_path / "p.zip", folder, host, None, cut)
        seen.append(kept(folder))
        text = str(caught.value)
        assert f"127.0.0.1:{server.port}: the connection was lost (" in text
        assert "Run the same command again" in text or "run the same command again" in text
        assert 3 <= len(stand_in.tasks_of(seen[0])) < 40
        until = time.monotonic() + 20
        for path in (tmp_path / "board").glob("*.pid"):
            while lives(int(path.read_text())):
                assert time.monotonic() < until, "it measures on for nobody"
                time.sleep(0.05)
        summary = session.run(tmp_path / "p.zip", folder, server.host(tmp_path / "board"))
    assert summary.measured == ids
    assert set(seen[0]) <= set(kept(folder))
    assert sorted(stand_in.tasks_of(kept(folder))) == sorted(ids)
    board = [line for path in (tmp_path / "board").glob("results-*.jsonl")
             for line in stand_in.whole_lines(path)]  # fmt: skip
    assert set(board) <= set(kept(folder))


@needs_server
def test_what_dies_on_the_board_is_started_again(
    server: Server, tmp_path: Path, folder: Path
) -> None:
    ids = stand_in.write_plan(tmp_path / "p.zip", 4, do={2: "crash"})
    with stand_in.with_runtime:
        summary = session.run(tmp_path / "p.zip", folder, server.host(tmp_path / "board"))
    assert summary.measured == [ids[0], ids[1], ids[3]]
    assert "ended by signal 9" in summary.failed[ids[2]]


@needs_server
def test_an_unknown_host_is_not_trusted(server: Server, tmp_path: Path, folder: Path) -> None:
    stand_in.write_plan(tmp_path / "p.zip", 1)
    host = server.host(tmp_path / "board", ssh_options=server.options(tmp_path / "none"))
    with pytest.raises(
        MeasurementError, match=r"host key is not known.*: ssh -p \d+ \w+@127\.0\.0\.1"
    ):
        session.run(tmp_path / "p.zip", folder, host)
    assert not (tmp_path / "board").exists()


@needs_server
def test_a_changed_host_key_is_not_trusted(server: Server, tmp_path: Path, folder: Path) -> None:
    stand_in.write_plan(tmp_path / "p.zip", 1)
    other = tmp_path / "known"
    other.write_text(f"[127.0.0.1]:{server.port} {key(tmp_path / 'other')}\n")
    host = server.host(tmp_path / "board", ssh_options=server.options(other))
    with pytest.raises(MeasurementError, match=r"not the one that is known.*ssh-keygen -R '\[127"):
        session.run(tmp_path / "p.zip", folder, host)
    assert not (tmp_path / "board").exists()


@needs_server
def test_a_key_that_is_not_accepted(server: Server, tmp_path: Path, folder: Path) -> None:
    stand_in.write_plan(tmp_path / "p.zip", 1)
    key(tmp_path / "stranger")
    options = [*server.options(), f"-i {tmp_path / 'stranger'}"]
    options = [option for option in options if "user_key" not in option]
    with pytest.raises(MeasurementError, match=r"Permission denied.*ssh-copy-id -p \d+ "):
        session.run(tmp_path / "p.zip", folder, server.host(tmp_path / "b", ssh_options=options))


@needs_server
def test_no_server_there(tmp_path: Path, folder: Path) -> None:
    stand_in.write_plan(tmp_path / "p.zip", 1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = SshHost(f"ssh://127.0.0.1:{closed.getsockname()[1]}", None, ["-F /dev/null"])
        with pytest.raises(MeasurementError, match=r"refused.*is its SSH server running"):
            session.run(tmp_path / "p.zip", folder, host)


@needs_server
@pytest.mark.parametrize("python", ["no-such-python", "/no/such; touch pwned", "false"])
def test_no_python_there(server: Server, tmp_path: Path, folder: Path, python: str) -> None:
    stand_in.write_plan(tmp_path / "p.zip", 1)
    host = server.host(tmp_path / "board", python=python)
    with pytest.raises(
        MeasurementError, match=f"no Python 3.6 or newer answers to '{python}'.*--python"
    ):
        session.run(tmp_path / "p.zip", folder, host)
    assert not list(tmp_path.rglob("pwned"))
    assert not (Path.home() / "pwned").exists()


@needs_server
def test_an_old_python_there(server: Server, tmp_path: Path, folder: Path) -> None:
    stand_in.write_plan(tmp_path / "p.zip", 1)
    old = tmp_path / "python2"
    old.write_text("#!/bin/sh\necho 'Python 2.7' >&2\nexit 1\n")
    old.chmod(0o755)
    with pytest.raises(MeasurementError, match=r"\(Python 2\.7\); install it"):
        session.run(tmp_path / "p.zip", folder, server.host(tmp_path / "board", python=str(old)))


@needs_server
def test_no_framework_there(server: Server, tmp_path: Path, folder: Path) -> None:
    stand_in.write_plan(tmp_path / "p.zip", 1, runtime="eager")
    bare = tmp_path / "python3"
    (tmp_path / "torch.py").write_text("raise ImportError('No module named torch')\n")
    bare.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(
        MeasurementError, match=r"ssh://.*: PyTorch cannot be imported here \(No module"
    ):
        session.run(tmp_path / "p.zip", folder, server.host(tmp_path / "board", python=str(bare)))


@needs_server
def test_a_folder_that_cannot_be_used_there(server: Server, tmp_path: Path, folder: Path) -> None:
    stand_in.write_plan(tmp_path / "p.zip", 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(
        MeasurementError, match=r"folder .*/file cannot be used there \(.*File exists\)"
    ):
        session.run(tmp_path / "p.zip", folder, server.host(tmp_path / "file"))


@needs_server
def test_a_full_disk_there(server: Server, tmp_path: Path, folder: Path) -> None:
    stand_in.write_plan(tmp_path / "p.zip", 1)
    board = tmp_path / "board"
    board.mkdir()
    with stand_in.with_runtime:
        host = server.host(board)
        name = f"board-{__import__('hashlib').sha256(stand_in.standalone.content()).hexdigest()[:16]}.pyz"
        (board / f"{name}.part").symlink_to("/dev/full")
        with pytest.raises(
            MeasurementError, match=rf"{name} could not be written to .*No space left"
        ):
            session.run(tmp_path / "p.zip", folder, host)
        assert not (board / name).exists()


# Without a server.


@pytest.mark.parametrize(
    ("place", "user", "host", "port", "folder"),
    [
        ("ssh://nano", None, "nano", None, ".cache/latency-predictor"),
        ("ssh://me@nano.local:2222/", "me", "nano.local", "2222", ".cache/latency-predictor"),
        ("ssh://nano/opt/x%20y/", None, "nano", None, "/opt/x y"),
        ("ssh://nano/~/lat", None, "nano", None, "./lat"),
        ("ssh://nano/~", None, "nano", None, "./"),
        ("ssh://me@[fe80::1%eth0]:22/a", "me", "fe80::1%eth0", "22", "/a"),
    ],
)  # fmt: skip
def test_places(place: str, user: str | None, host: str, port: str | None, folder: str) -> None:
    found = SshHost(place)
    assert (found.user, found.host, found.port, found.folder) == (user, host, port, folder)
    command = found.command("true")
    assert command[command.index("--") + 1] == (f"{user}@{host}" if user else host)


@pytest.mark.parametrize(
    "place",
    ["ssh://", "ssh://-oProxyCommand=x", "ssh://a b", "ssh://-l@host", "ssh://host:99999", "ssh://ho\nst",
     "ssh://user@-host", "ssh://host;reboot", "ssh://$(reboot)", "ssh://host:22x"],
)  # fmt: skip
def test_what_is_no_place(place: str) -> None:
    with pytest.raises(ConfigError, match=r"use ssh://\[user@\]host"):
        SshHost(place)


@pytest.mark.parametrize("option", ["", "nano", "-- reboot", "-i 'open"])
def test_what_is_no_option(option: str) -> None:
    with pytest.raises(ConfigError, match="--ssh-option"):
        SshHost("ssh://nano", None, [option])


def test_the_command_is_a_list_and_what_the_user_chose_is_quoted() -> None:
    host = SshHost("ssh://nano/a'b;c", "py thon", ["-i 'my key'"])
    command = host.command("true")
    assert command[:3] == ["ssh", "-i", "my key"]
    assert "BatchMode=yes" in command
    assert not any("StrictHostKeyChecking" in word for word in command)
    assert shlex.split(command[-1]) == ["/bin/sh", "-c", "true"]
    assert shlex.split(host.quoted) == ["/a'b;c"]


def test_no_ssh_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.write_plan(tmp_path / "p.zip", 1)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MeasurementError, match=r"ssh: cannot be started: No such file.*install it"):
        session.run(tmp_path / "p.zip", tmp_path / "t", SshHost("ssh://nano"))
