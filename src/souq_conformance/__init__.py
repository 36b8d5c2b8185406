"""Histories every verifier must judge alike: bad ones to reject, each for one reason, and good ones to accept.

A case is a short function that builds a town of its own: real git objects, real ssh keys, a clock of its own. What
souq's verbs would never write is written by hand. docs/conformance.md is for whoever brings another verifier.

    build(Path("cases"))
    run(Path("cases"), souq)
"""
