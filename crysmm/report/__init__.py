"""Report of a training run: a self-contained HTML page with scores, figures, tables and drawings of structures."""
