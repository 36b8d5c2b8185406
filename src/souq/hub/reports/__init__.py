"""Bugs that people report in a browser: drafts, which are no bugs of a model until somebody enrolled files them."""
