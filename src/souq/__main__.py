"""`python -m souq`: the same as `souq`, but Python looks for modules in the folder it is typed in first.

In a folder that somebody sent, type `souq`.
"""

from souq.cli import main

main()
