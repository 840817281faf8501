"""The recording room."""
