"""Wrong programs that the suite must notice: how strong it is, in numbers.

A mutant is one edit of one source file that makes one clause untrue (conformance/mutants/*.toml). It is run
in a copy of the checkout, by the tests of that clause; if one of them fails, the mutant is killed.
"""
