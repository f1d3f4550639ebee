"""What a user gives by hand, a picture, a text, a row or tensors, as one example in the form of a prepared data set."""
