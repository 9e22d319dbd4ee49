"""ABY3 and SecureNN over tf-encrypted, and numbers and functions on their shares."""
