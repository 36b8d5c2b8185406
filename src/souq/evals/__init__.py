"""Evals: cases with a right answer, who judges an answer, and how sure a difference is."""
