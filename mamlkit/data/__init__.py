"""Where tasks come from. ``README.md`` says what is where."""
