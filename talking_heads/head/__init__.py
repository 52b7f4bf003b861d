"""The head in three dimensions: face model, fit, motion, person, renderer."""
