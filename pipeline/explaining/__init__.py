"""What a trained model with its curvature says of examples: loaded in workers, apart from how work is made durable."""
