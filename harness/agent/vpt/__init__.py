"""The VPT policy."""
