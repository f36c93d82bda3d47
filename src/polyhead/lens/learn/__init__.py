"""One head of one layer, worked from words to output with the model's own numbers: in a terminal, and on a page."""
