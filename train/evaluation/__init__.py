"""How good a model is: what is measured, on whom, against what, and how it is reported."""
