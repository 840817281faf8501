"""A plug-in of each kind: an intervention, an agent, a world and an analysis."""
