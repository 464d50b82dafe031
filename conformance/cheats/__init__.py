"""A zoo of dishonest backends, as strangers would write them. Imports kernels, judge and oracle.

Each cheats in one way, and says itself what has to stop it (docs/cheats.md):

    arbitor verify --backend arbitor.conformance.cheats.zeros

A cheat is the torch backend with some operations replaced. Its `CHEAT` has `how`; `stopped_by`, the test of
this suite that must fail on it, as FILE::TEST; `says`, what the failure must say; and `clause`, which that
test names, or None where the judge itself is attacked. meta/test_cheats.py holds every one of them to its
word, and the honest backend to the same tests.
"""
