"""What is written about an evaluation: tables for programs, a page for people."""
