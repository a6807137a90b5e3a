"""Training a target on measurements of its own, and judging it on what was left out."""
