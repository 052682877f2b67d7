"""Image files and DICOM series as volumes with exact geometry, and back."""
