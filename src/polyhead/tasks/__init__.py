"""What a person asks for, from words to answer."""
