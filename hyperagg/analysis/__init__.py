"""What trained models hold: numbers in one place, pictures in another."""
