"""`python -m souq`: the same as `souq`."""

from souq.cli import main

main()
