"""Explaining examples by a trained model and its curvature, apart from how the work is made durable."""
