"""The parts of the page, one a file: the person on the left, and a tab for each thing that is done."""
