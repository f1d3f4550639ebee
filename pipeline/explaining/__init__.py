"""Explaining examples by a trained model and its curvature; how the work is made durable is no concern of it."""
