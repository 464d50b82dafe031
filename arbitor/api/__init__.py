"""Ternary layers in a model of one's own, by the names that `arbitor` exports. Imports the runtime, gradients."""
