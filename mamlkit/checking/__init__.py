"""What the exercises' check cells call: one module a chapter. A check says what is wrong, not only that it is."""
