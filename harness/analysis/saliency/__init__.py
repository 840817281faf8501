"""Saliency: which pixels of the picture a choice depends on, and whether that is so."""
