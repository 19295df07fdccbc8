"""Training: from speech to a teacher, and from a teacher to an LPA model with near-binary gates."""
