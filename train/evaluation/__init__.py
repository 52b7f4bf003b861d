"""Evaluation of a model: what is measured, on whom, against what, and how it is reported."""
