"""End with whoever started this process, however that ends. Runs on the board: Python 3.6.

A profile that lost its user must not measure on: it would hold the results file and load the board
while the next one runs. Standard input closes when the other side dies, over SSH and ADB too.
"""

import os
import threading

VARIABLE = "LATENCY_PROFILE_LEASH"
"""Set to 1 by who starts a board over a pipe that it keeps open for as long as it lives."""
EXIT_LOST = 5


def hold():
    # type: () -> bool
    """End this process once standard input closes, if that was asked; whether it was.

    The thread sleeps in a read, so it takes no time from what is measured. It ends the process at
    once: the results file can take that at any moment.
    """
    if os.environ.get(VARIABLE) != "1":
        return False
    threading.Thread(target=_follow, name="leash", daemon=True).start()
    return True


def _follow():
    # type: () -> None
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass
    os._exit(EXIT_LOST)
