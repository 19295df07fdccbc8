"""Logits to text with a language model: n-grams of words beside what the model hears."""
