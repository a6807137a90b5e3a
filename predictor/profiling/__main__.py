"""``python -m predictor.profiling`` here, and the entry of the self-contained file on a board."""

import sys

from predictor.profiling import agent, leash

if __name__ == "__main__":
    leash.hold()
    sys.exit(agent.main())
