"""The embedded block world."""
