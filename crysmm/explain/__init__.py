"""What a trained model's predictions rest on: features by name, atoms, elements, and whether that means anything."""
