"""One server for a department: upload a volume, follow the job, fetch the labels (FastAPI)."""
