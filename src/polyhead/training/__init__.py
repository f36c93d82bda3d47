"""Training: a task brings batches, a loss and a metric; this turns them into a saved model."""
