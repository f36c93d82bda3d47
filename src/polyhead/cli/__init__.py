"""The command line: one file a verb, each a thin door to the function of the same name."""
