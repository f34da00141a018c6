"""What a model is told before it answers: system messages, two worked examples, and the one request for repair."""
