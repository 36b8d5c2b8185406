"""Merge methods as pure functions (methods), the arithmetic under them (exact), and the fold over contributions."""

from souq.merge import elementwise_methods as elementwise_methods  # registers them
from souq.merge import spectral_methods as spectral_methods  # registers them
from souq.merge.fold import Fold
from souq.merge.methods import METHODS, check_settings, merge_method, settings_of

__all__ = ["METHODS", "Fold", "check_settings", "merge_method", "settings_of"]
