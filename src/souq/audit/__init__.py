"""The audit: how open a model is, under what terms, from where, at what cost, used by whom."""
