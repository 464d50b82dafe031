"""Training steps as data, on the backend under test and on its judge's side. Imports judge, draw, oracle.

After each step all state is the same, bit for bit; the judge's side is other code.

    world.py    a small model, and what the library does with it in a step
    twin.py     the same steps on a model of its own, without the library's update and checkpoints
    clipping.py what the gain of its layers is
    twins.py    both, compared after every step
    rules.py    Hypothesis' state machine, which draws the steps and shrinks them
    ranks.py    several ranks of one model, as threads
"""
