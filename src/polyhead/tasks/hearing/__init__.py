"""From the picture of a sound to words and times: what a model is told, what it says, and where it heard it."""
