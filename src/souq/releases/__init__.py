"""A release: a version that was voted on, its papers, and a folder of it that proves itself."""
