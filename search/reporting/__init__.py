"""What reports say of a search: analysis, report, pictures, terminal, log and files."""
