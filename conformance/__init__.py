"""The conformance suite: holds a backend, ours or a stranger's, against docs/SPEC.md, bit for bit.

`oracle/` is the specification in plain Python integers and shares no line with `reference/` or `kernels/`.
Tests name the clauses that they check with `@pytest.mark.clause("ARB-...")`, and
`pytest conformance --backend NAME` judges one backend.
"""
