"""The judging: target, comparison, guards, isolation, artifacts. Imports the oracle, kernels and arbitor."""
