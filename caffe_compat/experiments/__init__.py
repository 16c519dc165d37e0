"""The paper's experiments: declarations, the commands that they become, running these, tables."""
