"""Calls whose arrays, or results, have more elements than 32 bits count."""
