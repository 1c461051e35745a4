"""What is wrong with the sections that describe training, as far as that is known without torch."""
