"""A model in its folder becomes files that other engines run."""
