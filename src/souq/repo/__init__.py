"""A model repository: git, what is in a commit, and main judged step by step."""
