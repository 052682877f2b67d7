"""The papers' analyses, each a CSV and a figure."""
