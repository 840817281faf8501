"""Interventions on activations inside the policy."""
