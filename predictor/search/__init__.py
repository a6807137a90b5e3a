"""Search for architectures under latency and other budgets: spaces, costs, signals, studies."""
