"""Final scores: the winners trained again and scored on the test data."""
