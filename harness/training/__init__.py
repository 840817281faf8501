"""How the bundled agents are made: demonstrations, behavioural cloning, DAgger."""
