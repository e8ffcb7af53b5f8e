"""Text: words and figures for people."""
