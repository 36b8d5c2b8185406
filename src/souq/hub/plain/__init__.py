"""Plain repositories: folders of files with a git history, as `hf upload` knows them, owned by an account.

Nobody votes on what is in them; a model that is governed is a souq repository beside them.
"""
