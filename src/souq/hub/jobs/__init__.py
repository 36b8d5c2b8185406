"""Work that a hub has done by other processes: asked for in the database, taken from there, and finished once.

What a job finds is this hub's word and nobody's signature: no vote and no merge asks it.
"""
