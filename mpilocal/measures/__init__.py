"""What is measured at recorded rounds, and once of the problem itself."""
