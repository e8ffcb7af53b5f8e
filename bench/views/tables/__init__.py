"""Tables: rows, columns, a grid of cells, six formats."""
