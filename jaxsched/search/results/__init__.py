"""Results: curves, tables, pictures, files and comparisons."""
