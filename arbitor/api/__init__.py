"""Ternary layers in a model of one's own, exported from `arbitor`. Imports the runtime and gradients."""
