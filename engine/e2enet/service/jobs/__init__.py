"""What the server keeps and does: users, jobs, uploads, and the processes that segment."""
