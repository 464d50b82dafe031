"""The trainers' door to the runtime: thresholds on every ternary module, and clearing of KV and window
state."""

from arbitor.runtime import configure_ternary_training, join_ranks, reset_runtime_state

__all__ = ["configure_ternary_training", "join_ranks", "reset_runtime_state"]
