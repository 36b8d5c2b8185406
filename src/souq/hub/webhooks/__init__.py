"""What is new, told to other programs: a POST, signed with a secret that the two share, and tried again until it came.

Nothing counts by it: who is told reads the repository, and believes signatures alone.
"""
