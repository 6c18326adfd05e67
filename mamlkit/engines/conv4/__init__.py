"""The library's own ``conv4`` for many tasks in one call. ``README.md`` says what is where."""
