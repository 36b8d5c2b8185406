"""Who may change something on a hub: accounts, their keys, organisations and tokens.

An account opens the hub's doors and nothing else: what counts in a model is signed with an ssh key, and no account is
asked by `souq verify`. A hub without accounts is read by whoever reaches it.
"""
