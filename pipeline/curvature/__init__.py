"""Per-example gradients and curvature in eigen form: H + lambda I = Q diag(s + lambda) Q'. Pure torch."""
