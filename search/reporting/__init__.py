"""What is said of a search: analysis, report, pictures, terminal, log and files."""
