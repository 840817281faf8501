"""Many trials of scenarios, agents and seeds: planned in a file, run by processes, told as a table."""
