"""Drawing: arrays of weights and the words of their axes become pictures."""
