"""Ternary layers in a model of one's own, under the names that `arbitor` exports. Imports the runtime."""
