"""Looking on: what attention did in a run of a model, while the model's own kernel computed it."""
