"""E2ENet: 3D medical image segmentation with dynamic sparse feature fusion."""

__version__ = "0.1.0"
