"""What happens to what arrives, however it travelled."""
