"""The only place that imports torch: load, train, score, sketch, generate, distil.

Everything here needs `pip install souq[lab]`.
"""
