"""What a report says of one run, before anybody chooses a format."""
