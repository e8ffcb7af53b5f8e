"""Views: records in, text and pictures out; a view never measures."""
