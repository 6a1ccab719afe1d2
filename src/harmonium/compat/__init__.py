"""Interfaces of other libraries: those of the deep-learning tutorials (:mod:`.tutorial`)."""
